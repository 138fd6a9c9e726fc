"""Interrupted, terminated, killed, out of disk: what was captured is kept."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from refocus.stream.messages import EndHeader
from refocus.stream.subscriber import ReceivedFrame, Subscription

from .conftest import (
    PATIENCE,
    free_endpoint,
    one_line,
    read_report,
    read_zarr,
    refocus_live,
)


@pytest.mark.parametrize(
    ("sent", "then", "status"),
    [
        (signal.SIGINT, signal.SIGINT, 130),
        (signal.SIGTERM, signal.SIGTERM, 143),
        (signal.SIGINT, signal.SIGTERM, 130),
        (signal.SIGTERM, signal.SIGINT, 143),
    ],
)
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")
def test_an_interrupted_run_keeps_what_it_captured(
    tmp_path: Path,
    running: Callable[..., subprocess.Popen[str]],
    sent: signal.Signals,
    then: signal.Signals,
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
                if seen == 5:
                    process.send_signal(sent)
                elif seen == 6 and then is sent:  # it must not cut the clean-up short
                    process.send_signal(then)
            # which of two that wait for a busy process was sent first, nobody can tell it
            elif isinstance(message, EndHeader):
                process.send_signal(then)
    waiting, *said = process.communicate(timeout=PATIENCE)[1].splitlines()
    assert process.returncode == status
    assert waiting == f"waiting for 1 subscriber on {endpoint}"
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
        "--queue", 400,
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
    for name in ("raw", "refocused"):  # what is known of each, up to the last
        lines = (save / f"{name}.frames.jsonl").read_bytes().splitlines()
        known = [json.loads(line) for line in lines]
        assert sum("storage_index" in one for one in known) >= 59
    assert {one["trust"]["verdict"] for one in known if "trust" in one} == {"unrated"}
    written = kept[raw[kept].any(axis=(1, 2))]
    assert len(written) >= 40
    np.testing.assert_array_equal(refocused[written], np.invert(raw[written]))


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


@pytest.mark.parametrize("what", ["", "raw.ome.zarr/field0", "refocused.ome.zarr"])
def test_a_folder_that_is_removed_in_mid_run_ends_in_a_line_and_a_status(
    tmp_path: Path, running: Callable[..., subprocess.Popen[str]], what: str
) -> None:
    endpoint, save, report = free_endpoint(), tmp_path / "out", tmp_path / "report.json"
    process = running(
        "run", "--demo", "--engine", "fake", "--frames", 400, "--size", 96, "--fps", 100,
        "--save", save, "--report", report, "--publish", endpoint, "--wait-subscribers", 1,
    )  # fmt: skip
    with Subscription(endpoint, timeout=PATIENCE) as subscription:
        for frame in subscription:
            if frame.header.number == 20:
                for _ in range(3):  # it is being written to
                    shutil.rmtree(save / what, ignore_errors=True)
    said = process.communicate(timeout=PATIENCE)[1].splitlines()
    assert process.returncode in (1, 2)
    assert said[-1].startswith("refocus-live: ")
    assert str(save / what) in said[-1]
    assert not any("Traceback" in line for line in said)
    name = "refocused" if "refocused" in what else "raw"
    saved = json.loads(report.read_text())["saved"]
    assert saved[name]["missing"] > 0
    assert saved[name]["damaged"]
    assert subscription.end is not None
    assert subscription.end.saved is not None
    assert subscription.end.saved[name].model_dump(exclude_none=True) == saved[name]


@pytest.mark.parametrize(
    "options",
    [
        ("--engine", "no-such-model.onnx"),
        ("--engine", "fake", "--publish", "tcp://0.0.0.0:5556"),
        ("--engine", "fake", "--mm-config", "no-such.cfg"),
    ],
)
def test_a_run_that_is_refused_leaves_a_report(tmp_path: Path, options: tuple[str, ...]) -> None:
    source = () if "--mm-config" in options else ("--demo",)
    done = refocus_live("run", *source, *options, "--save", tmp_path / "out")
    assert done.returncode == 2
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["frames"]["received"] == 0
    assert one_line(done.stderr) == f"refocus-live: {report['error']}"


def test_a_run_that_breaks_before_its_first_frame_leaves_a_report(
    tmp_path: Path, running: Callable[..., subprocess.Popen[str]]
) -> None:
    save = tmp_path / "out"
    process = running(
        "run", "--demo", "--engine", "fake", "--publish", free_endpoint(), "--save", save,
        "--wait-subscribers", 1,
    )  # fmt: skip
    assert process.stderr is not None
    assert process.stderr.readline().startswith("waiting for 1")
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    report = json.loads((save / "report.json").read_text())
    assert (report["frames"]["received"], report["error"]) == (0, "KeyboardInterrupt")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
def test_a_killed_run_is_finished(
    tmp_path: Path, running: Callable[..., subprocess.Popen[str]]
) -> None:
    """With the shipped model, which is slower than the camera: frames are owed."""
    endpoint, save = free_endpoint(), tmp_path / "out"
    process = running(
        "run", "--demo", "--frames", 400, "--size", 96, "--fps", 200, "--queue", 2,
        "--policy", "every", "--save", save, "--publish", endpoint, "--wait-subscribers", 1,
    )  # fmt: skip
    with Subscription(endpoint, timeout=PATIENCE) as frames:
        for frame in frames:
            if frame.header.frame >= 60:
                process.kill()
                break
    assert process.wait(PATIENCE) == -signal.SIGKILL
    paths = [save / f"{name}.ome.zarr" for name in ("raw", "refocused")]
    before = [np.count_nonzero(read_zarr(path).any(axis=(1, 2))) for path in paths]
    assert before[1] < before[0]
    refused = refocus_live("finish", save, "--engine", "fake")
    assert refused.returncode == 2
    assert "was refocused by the model" in one_line(refused.stderr)
    done = refocus_live("finish", save, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    told = json.loads(done.stdout)
    assert told["raw"] == told["partners"] == before[0]
    assert before[0] - before[1] == told["refocused"]
    again = refocus_live("finish", save)
    assert (again.returncode, again.stderr) == (0, "")
    assert "nothing was owed" in again.stdout
    # as if all of it had been refocused afterwards
    expected = tmp_path / "expected.ome.zarr"
    assert refocus_live("process", paths[0], expected).returncode == 0
    raw, refocused, anew = (read_zarr(path) for path in (*paths, expected))
    kept = raw.any(axis=(1, 2))
    np.testing.assert_array_equal(refocused[kept], anew[kept])
    assert not refocused[~kept].any()
