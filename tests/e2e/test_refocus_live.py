"""Runs that go well, from the command to what they leave."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from refocus.stream.subscriber import subscribe

from .conftest import (
    PATIENCE,
    free_endpoint,
    read_report,
    read_zarr,
    refocus_live,
    write_images,
)


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
