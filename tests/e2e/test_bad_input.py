"""Whatever a user gets wrong is told in one line."""

import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from .conftest import (
    free_endpoint,
    one_line,
    refocus_live,
    write_images,
)


def a_corrupt_model(folder: Path) -> list[Any]:
    (folder / "bad.onnx").write_bytes(b"this is no model")
    return ["run", "--demo", "--engine", folder / "bad.onnx"]


def a_wrong_key(folder: Path) -> list[Any]:
    (folder / "run.yaml").write_text("demo: true\npolcy: newest\n")
    return ["run", "--config", folder / "run.yaml"]


def a_folder_with(name: str, write: Callable[[Path], Any]) -> Callable[[Path], list[Any]]:
    def prepare(folder: Path) -> list[Any]:
        frames = write_images(folder / "frames")
        write(frames / name)
        return ["run", "--replay", frames, "--engine", "fake"]

    return prepare


def colours(path: Path) -> None:
    Image.fromarray(np.zeros((64, 80, 3), np.uint8)).save(path)


def floats(path: Path) -> None:
    tifffile.imwrite(path, np.zeros((64, 80), np.float32))


def half_an_image(path: Path) -> None:
    path.write_bytes((path.parent / "00.png").read_bytes()[:500])


def a_save_folder_in_use(folder: Path) -> list[Any]:
    (folder / "raw.ome.zarr").mkdir()
    return ["run", "--demo", "--engine", "fake", "--save", folder]


def a_file_for_a_folder(folder: Path) -> list[Any]:
    (folder / "file").touch()
    return ["run", "--demo", "--engine", "fake", "--report", folder / "file" / "r.json"]


def a_misspelt_sequence(folder: Path) -> list[Any]:
    (folder / "s.yaml").write_text("time_plan: {interval: 0, loops: 2}\nchanels: []\n")
    return ["run", "--demo", "--engine", "fake", "--sequence", folder / "s.yaml"]


def an_impossible_sequence(folder: Path) -> list[Any]:
    (folder / "s.yaml").write_text("channels: [nothing-like-it]\n")
    return ["run", "--demo", "--engine", "fake", "--size", 64, "--sequence", folder / "s.yaml"]


def broken_hardware(folder: Path) -> list[Any]:
    (folder / "mm.cfg").write_text("Device,Camera,NoSuchAdapter,DCam\n")
    return ["run", "--mm-config", folder / "mm.cfg", "--engine", "fake"]


def existing_output(folder: Path) -> list[Any]:
    return ["process", write_images(folder / "in"), folder, "--engine", "fake"]


Bad = tuple[str, Callable[[Path], list[Any]], str]
BAD_INPUT: list[Bad] = [
    ("no source", lambda _: ["run"], "name one source of frames"),
    ("two sources", lambda f: ["run", "--demo", "--replay", f], "got --demo and --replay"),
    ("unknown option", lambda _: ["run", "--demo", "--enginee", "x"], "--enginee"),
    ("not a number", lambda _: ["run", "--demo", "--fps", "fast"], "--fps"),
    ("negative", lambda _: ["run", "--demo", "--frames", -3], "--frames: input should be greater"),
    ("missing model", lambda f: ["run", "--demo", "--engine", f / "no.onnx"], "no.onnx"),
    ("unknown engine", lambda _: ["run", "--demo", "--engine", "zeiss"], "'zeiss'"),
    ("corrupt model", a_corrupt_model, "bad.onnx"),
    ("wrong key", a_wrong_key, "run.yaml, line 2: unknown key 'polcy'; did you mean 'policy'?"),
    ("no config", lambda f: ["run", "--config", f / "no.yaml"], "no.yaml: cannot be read"),
    ("three channels", a_folder_with("03.png", colours), "03.png: has shape (64, 80, 3)"),
    ("wrong dtype", a_folder_with("03.tif", floats), "03.tif: has pixels of float32"),
    ("unreadable image", a_folder_with("03.png", half_an_image), "03.png: not a readable image"),
    ("no replay", lambda f: ["run", "--replay", f / "no", "--engine", "fake"], "no such folder"),
    ("empty replay", lambda f: ["run", "--replay", f, "--engine", "fake"], "holds no image"),
    ("save in use", a_save_folder_in_use, "raw.ome.zarr: exists already"),
    ("no room for a report", a_file_for_a_folder, "file: cannot be written"),
    ("misspelt sequence", a_misspelt_sequence, "s.yaml: unknown key 'chanels'"),
    ("impossible sequence", an_impossible_sequence, "nothing-like-it"),
    ("no hardware file", lambda f: ["run", "--mm-config", f / "no.cfg", "--engine", "fake"],
     "no.cfg: cannot be loaded: no such file; give the path of a configuration"),
    ("broken hardware", broken_hardware, "mm.cfg: cannot be loaded"),
    ("no endpoint", lambda _: ["run", "--demo", "--publish", "5556"], "--publish: "),
    ("open to the world", lambda _: ["run", "--demo", "--engine", "fake", "--publish",
     "tcp://0.0.0.0:5999"], "other hosts could read"),
    ("metrics for the world", lambda _: ["run", "--demo", "--engine", "fake", "--metrics",
     "0.0.0.0:9464"], "metrics on 0.0.0.0:9464: other hosts could read them"),
    ("watch nothing", lambda _: ["watch", "nonsense"], "endpoint nonsense"),
    ("watch silence", lambda _: ["watch", free_endpoint(), "--timeout", 0.3], "nothing heard"),
    ("process nothing", lambda f: ["process", f / "no", f / "out", "--engine", "fake"],
     "no: no such file"),
    ("finish nothing", lambda f: ["finish", f], "not a run that was saved: no raw.ome.zarr"),
    ("process into what exists", existing_output, "exists already"),
    ("unknown command", lambda _: ["refocus"], "No such command 'refocus'"),
]  # fmt: skip


@pytest.mark.parametrize(("prepare", "expected"), [b[1:] for b in BAD_INPUT],
                         ids=[b[0] for b in BAD_INPUT])  # fmt: skip
def test_bad_input_is_refused_in_one_line(
    tmp_path: Path, prepare: Callable[[Path], list[Any]], expected: str
) -> None:
    done = refocus_live(*prepare(tmp_path))
    assert done.returncode == 2, done
    assert expected in one_line(done.stderr)
    assert done.stdout == ""


def test_a_port_in_use_is_named() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        endpoint = f"tcp://127.0.0.1:{taken.getsockname()[1]}"
        done = refocus_live(
            "run", "--demo", "--engine", "fake", "--size", 64, "--publish", endpoint
        )
    assert done.returncode == 2
    assert endpoint in one_line(done.stderr)
