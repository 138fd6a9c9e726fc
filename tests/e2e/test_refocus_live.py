"""The installed command, in a process of its own, as a user runs it."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorstore
import tifffile
from numpy.typing import NDArray
from PIL import Image

from refocus.acquisition.subscriber import ReceivedFrame, Subscription, subscribe

COMMAND = str(Path(sys.executable).parent / "refocus-live")
PATIENCE = 120.0

REPORT_KEYS = {
    "frames": ["received", "published", "deferred", "dropped", "failed"],
    "latency_ms": ["p50", "p99", "max"],
    "engine_ms": ["p50", "p99"],
    "engine": ["name", "model", "sha256", "precision"],
    "quality": ["psnr_before", "psnr_after", "ssim_before", "ssim_after", "n"],
}


def refocus_live(*arguments: Any, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [COMMAND, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
        **options,
    )


def free_endpoint() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"tcp://127.0.0.1:{probe.getsockname()[1]}"


def read_report(path: Path, quality: bool) -> dict[str, Any]:
    """Read a report, and check its keys and that every frame is accounted for."""
    report: dict[str, Any] = json.loads(path.read_text())
    expected = {"fps", *REPORT_KEYS} - (set() if quality else {"quality"})
    assert set(report) == expected
    for key in expected - {"fps"}:
        assert list(report[key]) == REPORT_KEYS[key]
    frames = report["frames"]
    # after the end nothing is in flight
    parts = (frames[k] for k in ("published", "deferred", "dropped", "failed"))
    assert frames["received"] == sum(parts)
    return report


def read_zarr(path: Path) -> NDArray[Any]:
    """Read every array of an OME-Zarr, positions one after the other: ``(N, H, W)``."""
    arrays = []
    for document in sorted(path.rglob("zarr.json")):
        if json.loads(document.read_text())["node_type"] == "array":
            spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": str(document.parent)}}
            array = np.asarray(tensorstore.open(spec).result().read().result())
            arrays.append(array.reshape(-1, *array.shape[-2:]))
    return np.concatenate(arrays)


def write_images(folder: Path, count: int = 5, blur: int = 0) -> Path:
    """Write a folder of small frames ``00.png``..., in focus or not."""
    folder.mkdir()
    for number in range(count):
        image = np.random.default_rng(number).integers(200, 60_000, (64, 80))
        for _ in range(blur):
            image = (image + np.roll(image, 1, 0) + np.roll(image, 1, 1)) // 3
        Image.fromarray(image.astype(np.uint16)).save(folder / f"{number:02d}.png")
    return folder


def start(*arguments: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [COMMAND, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


@pytest.fixture
def running() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start commands, and see that none outlives its test."""
    started: list[subprocess.Popen[str]] = []

    def begin(*arguments: Any) -> subprocess.Popen[str]:
        started.append(start(*arguments))
        return started[-1]

    yield begin
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


def test_the_demo_leaves_a_report_and_a_picture(tmp_path: Path) -> None:
    path = tmp_path / "demo" / "report.json"
    done = refocus_live(
        "run", "--demo", "--engine", "fake", "--size", 96, "--frames", 8, "--report", path
    )
    assert (done.returncode, done.stderr) == (0, "")
    report = read_report(path, quality=True)
    assert report["frames"]["published"] == report["frames"]["received"] == 8
    assert report["quality"]["n"] == 8
    assert "8 of 8 published" in done.stdout
    assert "\x1b" not in done.stdout  # no colours where there is no terminal
    with Image.open(path.with_suffix(".png")) as picture:
        assert picture.width > 1400  # captured | refocused | reference


def test_a_replay_with_its_reference(tmp_path: Path) -> None:
    frames = write_images(tmp_path / "frames", blur=4)
    write_images(tmp_path / "sharp")
    path = tmp_path / "r.json"
    done = refocus_live(
        "run", "--replay", frames, "--reference", tmp_path / "sharp", "--engine", "fake",
        "--report", path,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    report = read_report(path, quality=True)
    assert report["frames"]["published"] == report["quality"]["n"] == 5
    assert report["quality"]["psnr_before"] > report["quality"]["psnr_after"]  # inverted


def test_settings_from_a_file_and_options_over_them(tmp_path: Path) -> None:
    write_images(tmp_path / "frames")
    config = tmp_path / "run.yaml"
    config.write_text("replay: frames\nengine: nowhere.onnx\nreport: r.json\nframes: 3\n")
    done = refocus_live("run", "--config", config, "--engine", "fake", cwd="/")
    assert (done.returncode, done.stderr) == (0, "")
    assert read_report(tmp_path / "r.json", quality=False)["frames"]["published"] == 3
    with Image.open(tmp_path / "r.png") as picture:
        assert picture.width < 1100  # no reference


SEQUENCES = {
    "hardware-sequenced": "time_plan: {interval: 0, loops: 6}\n",
    "software": "time_plan: {interval: 0, loops: 2}\n"
    "channels: [{config: DAPI, exposure: 5}, {config: FITC, exposure: 7}]\n"
    "z_plan: {range: 2, step: 1}\n",
}


@pytest.mark.parametrize("kind", SEQUENCES)
def test_a_micro_manager_configuration_is_acquired_and_saved(
    tmp_path: Path, kind: str, running: Callable[..., subprocess.Popen[str]]
) -> None:
    pytest.importorskip("mm_test_adapters")
    sequence, save, endpoint = tmp_path / "s.yaml", tmp_path / "out", free_endpoint()
    sequence.write_text(SEQUENCES[kind])
    process = running(
        "run", "--mm-config", "MMConfig_demo.cfg", "--sequence", sequence, "--engine", "fake",
        "--save", save, "--publish", endpoint, "--wait-subscribers", 1, "--queue", 64,
        "--refocus-z",
    )  # fmt: skip
    with subscribe(endpoint, timeout=PATIENCE) as subscription:
        received = list(subscription)
    assert process.wait(PATIENCE) == 0
    report = read_report(save / "report.json", quality=False)
    count = {"hardware-sequenced": 6, "software": 12}[kind]
    assert report["frames"]["published"] == report["frames"]["received"] == count
    raw, refocused = read_zarr(save / "raw.ome.zarr"), read_zarr(save / "refocused.ome.zarr")
    assert len(raw) == len(received) == count
    for number, frame in enumerate(received):
        # what the camera gave went through the engine, which inverts
        np.testing.assert_array_equal(raw[number], np.invert(frame.pixels))
        np.testing.assert_array_equal(refocused[number], frame.pixels)
    if kind == "software":
        indices = [frame.header.index for frame in received]
        assert indices[1] == {"t": 0, "c": 0, "z": 1}
        assert [frame.header.channel for frame in received[:6]] == ["DAPI"] * 3 + ["FITC"] * 3


def test_a_subscriber_in_another_process_gets_every_frame_as_it_was_saved(
    tmp_path: Path, running: Callable[..., subprocess.Popen[str]]
) -> None:
    endpoint, save = free_endpoint(), tmp_path / "out"
    process = running(
        "run", "--demo", "--engine", "fake", "--frames", 200, "--size", 512, "--save", save,
        "--publish", endpoint, "--wait-subscribers", 1,
    )  # fmt: skip
    with subscribe(endpoint, timeout=PATIENCE) as subscription:
        received = [(f.header.number, f.header.frame, f.pixels.copy()) for f in subscription]
        assert subscription.lost == 0
    assert process.wait(PATIENCE) == 0
    assert [number for number, _, _ in received] == list(range(200))
    assert read_report(save / "report.json", quality=True)["frames"]["published"] == 200
    raw, refocused = read_zarr(save / "raw.ome.zarr"), read_zarr(save / "refocused.ome.zarr")
    assert raw.shape == refocused.shape == (200, 512, 512)
    for _, frame, pixels in received:
        np.testing.assert_array_equal(pixels, refocused[frame])
        np.testing.assert_array_equal(pixels, np.invert(raw[frame]))


@pytest.mark.parametrize("over", [[], ["--shared-memory"]], ids=["tcp", "shared memory"])
def test_watch_prints_what_a_run_publishes(
    tmp_path: Path, running: Callable[..., subprocess.Popen[str]], over: list[str]
) -> None:
    endpoint = free_endpoint()
    watcher = running("watch", endpoint, "--timeout", PATIENCE, *over)
    frames = write_images(tmp_path / "frames")
    run = refocus_live(
        "run", "--replay", frames, "--engine", "fake", "--publish", endpoint,
        "--wait-subscribers", 1, *over,
    )  # fmt: skip
    assert run.returncode == 0
    printed, _ = watcher.communicate(timeout=PATIENCE)
    assert watcher.returncode == 0
    lines = printed.splitlines()
    assert lines[0].startswith("run ")
    assert [line.split()[0] for line in lines[1:-1]] == ["0", "1", "2", "3", "4"]
    assert "80×64 uint16" in lines[1]
    assert "00.png" in lines[1]
    assert lines[-1].startswith("end ")
    assert "5 published" in lines[-1]


@pytest.mark.parametrize(
    ("sent", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["Ctrl-C", "SIGTERM"]
)
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")
def test_an_interrupted_run_keeps_what_it_captured(
    tmp_path: Path,
    running: Callable[..., subprocess.Popen[str]],
    sent: signal.Signals,
    status: int,
) -> None:
    endpoint, save = free_endpoint(), tmp_path / "out"
    process = running(
        "run", "--demo", "--engine", "fake", "--frames", 4000, "--size", 96, "--fps", 40,
        "--queue", 400,
        "--save", save, "--publish", endpoint, "--wait-subscribers", 1,
    )  # fmt: skip
    seen = 0
    with Subscription(endpoint, timeout=PATIENCE) as subscription:
        for message in subscription.messages():
            if isinstance(message, ReceivedFrame):
                seen += 1
                if seen in (5, 6):  # the second must not cut the clean-up short
                    process.send_signal(sent)
    waiting, *said = process.communicate(timeout=PATIENCE)[1].splitlines()
    assert process.returncode == status
    assert waiting == f"waiting for 1 subscribers on {endpoint}"
    assert one_line("\n".join(said)).endswith("what was captured is kept")
    assert subscription.end is not None  # subscribers were told
    frames = read_report(save / "report.json", quality=True)["frames"]
    assert 5 <= frames["published"] < 4000
    raw, refocused = read_zarr(save / "raw.ome.zarr"), read_zarr(save / "refocused.ome.zarr")
    kept = np.flatnonzero(refocused.any(axis=(1, 2)))
    assert len(kept) == frames["published"]
    # nothing was captured after the signal, unseen
    assert np.count_nonzero(raw.any(axis=(1, 2))) == frames["received"]
    np.testing.assert_array_equal(refocused[kept], np.invert(raw[kept]))


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")
def test_an_interrupted_micro_manager_run_releases_the_camera(
    tmp_path: Path, running: Callable[..., subprocess.Popen[str]]
) -> None:
    pytest.importorskip("mm_test_adapters")
    endpoint, save = free_endpoint(), tmp_path / "out"
    process = running(
        "run", "--mm-config", "MMConfig_demo.cfg", "--engine", "fake", "--frames", 3000,
        "--save", save, "--publish", endpoint, "--wait-subscribers", 1,
    )  # fmt: skip
    with Subscription(endpoint, timeout=PATIENCE) as frames:
        for frame in frames:
            if frame.header.number == 5:
                process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=PATIENCE)[1].splitlines()
    assert process.returncode == 130
    assert one_line("\n".join(said[1:])).endswith("what was captured is kept")
    received = read_report(save / "report.json", quality=False)["frames"]["received"]
    assert np.count_nonzero(read_zarr(save / "raw.ome.zarr").any(axis=(1, 2))) == received


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
def test_what_a_killed_run_leaves_can_be_read(
    tmp_path: Path, running: Callable[..., subprocess.Popen[str]]
) -> None:
    """Also: keys made and used by the command, and the policy that comes back to every frame."""
    made = refocus_live("keys", tmp_path / "keys")
    assert (made.returncode, made.stderr) == (0, "")
    endpoint, save = free_endpoint(), tmp_path / "out"
    process = running(
        "run", "--demo", "--engine", "fake", "--frames", 4000, "--size", 96, "--fps", 100,
        "--queue", 2, "--policy", "every", "--save", save, "--publish", endpoint,
        "--keys", tmp_path / "keys" / "publisher", "--wait-subscribers", 1,
    )  # fmt: skip
    with Subscription(endpoint, timeout=PATIENCE, keys=tmp_path / "keys" / "reader") as readers:
        for frame in readers:
            if frame.header.number == 60:
                process.kill()
                break
    assert process.wait(PATIENCE) == -signal.SIGKILL
    raw, refocused = read_zarr(save / "raw.ome.zarr"), read_zarr(save / "refocused.ome.zarr")
    kept = np.flatnonzero(refocused.any(axis=(1, 2)))
    assert len(kept) >= 40  # the last few were on their way to the disk
    written = kept[raw[kept].any(axis=(1, 2))]
    assert len(written) >= 40
    np.testing.assert_array_equal(refocused[written], np.invert(raw[written]))


def test_every_frame_has_its_partner_though_the_engine_is_too_slow(tmp_path: Path) -> None:
    """Under ``every``, with channels and a stack that are handed on as they were captured."""
    sequence, save = tmp_path / "s.yaml", tmp_path / "out"
    sequence.write_text(
        "time_plan: {interval: 0, loops: 40}\nchannels: [DAPI, BF]\naxis_order: tpcz\n"
    )
    done = refocus_live(
        "run", "--demo", "--engine", "fake", "--sequence", sequence, "--size", 96, "--fps", 400,
        "--queue", 1, "--policy", "every", "--save", save, "--channel", "DAPI=auto",
    )  # fmt: skip
    assert done.returncode == 0
    frames = json.loads((save / "report.json").read_text())["frames"]
    assert (frames["published"], frames["received"], frames["skipped"]) == (40, 40, 40)
    assert frames["deferred"] == frames["dropped"] == frames["failed"] == 0
    raw, refocused = (read_zarr(save / f"{name}.ome.zarr") for name in ("raw", "refocused"))
    np.testing.assert_array_equal(refocused[::2], np.invert(raw[::2]))
    np.testing.assert_array_equal(refocused[1::2], raw[1::2])


def test_process_writes_what_a_run_would_have_saved(tmp_path: Path) -> None:
    save = tmp_path / "out"
    done = refocus_live(
        "run", "--demo", "--engine", "fake", "--size", 96, "--frames", 8, "--save", save
    )
    assert (done.returncode, done.stderr) == (0, "")
    again = tmp_path / "again.ome.zarr"
    done = refocus_live("process", save / "raw.ome.zarr", again, "--engine", "fake")
    assert (done.returncode, done.stderr) == (0, "")
    assert "8 planes refocused" in done.stdout
    np.testing.assert_array_equal(read_zarr(again), read_zarr(save / "refocused.ome.zarr"))


# ---------------------------------------------------------------- bad input


def one_line(text: str) -> str:
    """Check that a message is one clear line, and give it."""
    lines = text.splitlines()
    assert len(lines) == 1, text
    assert lines[0].startswith("refocus-live: ")
    return lines[0]


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


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Give a file system of 60 MB, or skip."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=60m", "refocus-test", str(folder)]
    try:
        allowed = os.geteuid() == 0 and subprocess.run(mount, check=False, capture_output=True)
    except (AttributeError, OSError):
        allowed = False
    if not allowed or allowed.returncode:
        pytest.skip("mounting a small file system is not allowed here")
    yield folder
    for _ in range(50):
        if subprocess.run(["umount", str(folder)], check=False).returncode == 0:
            break
        time.sleep(0.1)


def test_a_full_disk_stops_the_run_and_keeps_everything(small_disk: Path) -> None:
    save = small_disk / "run"
    done = refocus_live("run", "--demo", "--engine", "fake", "--frames", 400, "--save", save)
    assert done.returncode == 2
    assert "raw.ome.zarr: the disk is full" in one_line(done.stderr)
    frames = read_report(save / "report.json", quality=True)["frames"]
    assert 0 < frames["published"] == frames["received"] < 400
    raw, refocused = read_zarr(save / "raw.ome.zarr"), read_zarr(save / "refocused.ome.zarr")
    kept = np.flatnonzero(raw.any(axis=(1, 2)))
    assert len(kept) == frames["received"]
    np.testing.assert_array_equal(refocused[kept], np.invert(raw[kept]))


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such limit")
def test_a_disk_that_fails_without_warning_is_told_of(tmp_path: Path) -> None:
    import resource

    def limit() -> None:  # writing more into a file fails, as on a full disk
        resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))

    save = tmp_path / "run"
    done = refocus_live(
        "run", "--demo", "--engine", "fake", "--frames", 4, "--save", save, preexec_fn=limit
    )
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "raw.ome.zarr: the disk is full" in done.stderr.splitlines()[-1]
    frames = read_report(save / "report.json", quality=True)["frames"]
    assert frames["received"] == 4
