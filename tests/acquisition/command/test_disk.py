"""What cannot be written is found out before the first frame; a disk, before it is full."""

import os
import shutil
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from refocus.acquisition.command import session
from refocus.acquisition.command.disk import FRAME_EXTRA, Room, alone_in, check_outputs
from refocus.configs import RefocusError
from refocus.configs.live_config import LiveConfig

from ...conftest import zarr_arrays

MB = 1 << 20


@pytest.mark.parametrize(
    "name", ["folder", "folder.json", "r.png", ".", "pipe.json", "beside.json"]
)
def test_a_report_that_is_no_file_is_refused_and_stays(name: str, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder.png").mkdir()
    if sys.platform != "win32":
        os.mkfifo(tmp_path / "pipe.json")
        os.mkfifo(tmp_path / "beside.png")
    elif name in ("pipe.json", "beside.json"):
        pytest.skip("Windows has no such files")
    there = sorted(tmp_path.iterdir())
    with pytest.raises(RefocusError, match="cannot be the report"):
        check_outputs(None, tmp_path / name)
    assert sorted(tmp_path.iterdir()) == there


@pytest.mark.skipif(os.name == "nt", reason="locks no folder")
def test_two_runs_at_once_do_not_share_a_folder(tmp_path: Path) -> None:
    save = tmp_path / "new" / "run"
    with alone_in(save), pytest.raises(RefocusError, match="another run is being saved there"):
        alone_in(save).__enter__()
    with alone_in(save), alone_in(None), alone_in(None):
        assert not list(save.iterdir())


@pytest.mark.parametrize(
    "name", ["raw.ome.zarr", "refocused.ome.zarr", "raw.frames.jsonl", "refocused.frames.jsonl"]
)
def test_nothing_of_an_earlier_run_is_overwritten(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("all that is known of its frames")
    with pytest.raises(RefocusError, match=f"{name}: exists already, and is not overwritten"):
        check_outputs(tmp_path, None)
    assert [one.name for one in tmp_path.iterdir()] == [name]


def test_a_folder_that_no_writer_can_name_is_refused_before_the_first_frame(tmp_path: Path) -> None:
    with pytest.raises(RefocusError, match="is no name in UTF-8"):
        check_outputs(tmp_path / "a\udcff", None)
    assert not list(tmp_path.iterdir())


class Disk:
    """So many free bytes, and a count of how often it was asked for them."""

    def __init__(self, free: int) -> None:
        self.free = free
        self.looks = 0
        self.error: Exception | None = None

    def __call__(self, path: Path) -> SimpleNamespace:
        self.looks += 1
        if self.error:
            raise self.error
        return SimpleNamespace(free=self.free)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    disk = Disk(1000 * MB)
    monkeypatch.setattr(shutil, "disk_usage", disk)
    return disk


def rooms(
    folder: Path, frame_mb: int = 1, cameras: int = 1, unwritten: Callable[[], int] = int
) -> Room:
    return Room(folder / "raw.ome.zarr", frame_mb * MB - FRAME_EXTRA, cameras, unwritten)


def frames_until_full(room: Room, disk: Disk, frame_mb: int = 1) -> int:
    """Write raw frames and their partners until there is no room; how many."""
    for frames in range(10**6):
        full = is_full(room)
        disk.free -= 2 * frame_mb * MB  # the frame in hand is saved, and its partner
        if full:
            return frames + 1
    raise AssertionError


def is_full(room: Room) -> bool:
    try:
        room.check()
    except RefocusError as error:
        return "the disk is full: the run was stopped" in str(error)
    return False


def test_the_disk_is_looked_at_by_what_is_written_and_seldom(tmp_path: Path, disk: Disk) -> None:
    frames = frames_until_full(rooms(tmp_path), disk)
    assert frames == (1000 - 16) // 2
    assert disk.looks <= 4


@pytest.mark.parametrize(("frame_mb", "cameras"), [(1, 1), (32, 1), (32, 4)])
def test_what_is_spared_is_still_there_behind_the_last_frame(
    tmp_path: Path, disk: Disk, frame_mb: int, cameras: int
) -> None:
    frames_until_full(rooms(tmp_path, frame_mb, cameras), disk, frame_mb)
    left = disk.free - 2 * (cameras - 1) * frame_mb * MB  # the event is ended
    assert left >= Room.SPARE_BYTES


def test_what_is_still_to_be_written_counts_as_written(tmp_path: Path, disk: Disk) -> None:
    waiting = 2  # frames of 1 MB, written when all are taken: nothing is seen of them before
    room = rooms(tmp_path, unwritten=lambda: waiting)
    while not is_full(room):
        waiting += 2
    assert waiting * MB + Room.SPARE_BYTES <= disk.free <= (waiting + 6) * MB + Room.SPARE_BYTES


def test_lines_that_are_still_to_be_copied_count(tmp_path: Path, disk: Disk) -> None:
    disk.free = Room.SPARE_BYTES + 10 * MB
    rooms(tmp_path).check()
    for name in ("raw", "refocused"):
        with (tmp_path / f"{name}.frames.jsonl").open("wb") as lines:
            lines.truncate(4 * MB)
    with pytest.raises(RefocusError, match="the disk is full"):
        rooms(tmp_path).check()


def test_what_others_write_is_told_at_the_next_frame(tmp_path: Path, disk: Disk) -> None:
    room = rooms(tmp_path)
    room.check()
    disk.free = MB
    room.check()  # not looked at
    room.look()
    with pytest.raises(RefocusError, match="the disk is full"):
        room.check()


def test_a_folder_that_is_gone_is_told_and_a_server_that_does_not_answer_is_not(
    tmp_path: Path, disk: Disk
) -> None:
    room = rooms(tmp_path)
    disk.error = OSError(5, "no answer")
    room.check()
    room.look()
    disk.error = FileNotFoundError()
    room.look()
    with pytest.raises(RefocusError, match="is gone: something removes"):
        room.check()


class Silent:
    """Watches a run, and says nothing."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *told: None


def test_a_run_is_stopped_though_nobody_comes_round_to_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = 40 * MB

    def usage(folder: Path) -> SimpleNamespace:
        used = 0
        for path, _, files in os.walk(folder):
            for name in files:
                with suppress(FileNotFoundError):  # it has its own name by now
                    used += os.stat(f"{path}/{name}").st_size
        return SimpleNamespace(free=whole - used)

    monkeypatch.setattr(shutil, "disk_usage", usage)
    monkeypatch.setattr(session, "LOOK_SECONDS", 600.0)
    config = LiveConfig(demo=True, engine="fake", frames=400, size=512, save=tmp_path / "run")
    with pytest.raises(RefocusError, match="the disk is full: the run was stopped"):
        session.run(config, Silent())
    raw, refocused = (
        np.concatenate(list(zarr_arrays(tmp_path / "run" / f"{name}.ome.zarr").values()))
        for name in ("raw", "refocused")
    )
    kept = np.flatnonzero(raw.any(axis=(1, 2)))
    assert 5 < len(kept) < 30
    np.testing.assert_array_equal(refocused[kept], np.invert(raw[kept]))
