"""A run that ended goes on: nothing is done twice, and the end is that of an undisturbed run."""

import os
import signal
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from refocus.acquisition.command import cli
from refocus.configs import RefocusError
from refocus.configs.files import remove
from refocus.configs.light_path import KnownOptics
from refocus.configs.terminal import Stopped
from refocus.engine.fake import FakeEngine
from refocus.recorded import progress
from refocus.recorded.process import process
from refocus.recorded.progress import identify
from refocus.recorded.refocusing import Options, Result, Said
from refocus.recorded.selection import Selection

from .test_what_is_kept import write_zarr

PLANES = np.random.default_rng(5).integers(0, 1 << 12, (6, 64, 96)).astype(np.uint16)


def write_tiff(path: Path) -> Path:
    tifffile.imwrite(path, PLANES, photometric="minisblack", metadata=None)
    return path


def content(root: Path) -> dict[str, bytes]:
    """Read all files but what names the time."""
    files = [root] if root.is_file() else sorted(p for p in root.rglob("*") if p.is_file())
    return {str(f.relative_to(root)): f.read_bytes() for f in files if f.name != ".zattrs"}


class Ending(FakeEngine):
    """Ends the run with an error at one frame."""

    def __init__(self, at: int, error: BaseException) -> None:
        super().__init__()
        self._at, self._error = at, error

    def refocus(self, frame: Any) -> Any:
        if self.calls > self._at:
            raise self._error
        return super().refocus(frame)


@pytest.mark.parametrize("name", ["in.tif", "in.zarr"])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_what_is_done_is_not_done_again(tmp_path: Path, name: str, error: BaseException) -> None:
    source, target = tmp_path / name, tmp_path / name.replace("in", "out")
    if name == "in.tif":
        write_tiff(source)
    else:
        write_zarr(source, [PLANES, PLANES[:, ::2, ::2]], "tyx")
    with pytest.raises(RefocusError if isinstance(error, OSError) else KeyboardInterrupt):
        process(source, target, Ending(4, error), lambda done: None)
    assert not target.exists()
    engine = FakeEngine()
    assert process(source, target, engine, lambda done: None).refocused == 6
    assert 0 < engine.calls <= 6 - 3  # one of four may have been under way
    undisturbed = tmp_path / name.replace("in", "undisturbed")
    process(source, undisturbed, FakeEngine(), lambda done: None)
    assert content(target) == content(undisturbed)
    assert not list(tmp_path.glob(".*"))


SLOW = """
import sys
from pathlib import Path
from refocus.engine.fake import FakeEngine
from refocus.recorded import progress
from refocus.recorded.process import process
tell = lambda done: print(done.regions, flush=True)
process(Path(sys.argv[1]), Path(sys.argv[2]), FakeEngine(0.5), tell)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no kill -9")
def test_a_run_that_was_killed_loses_at_most_what_was_under_way(tmp_path: Path) -> None:
    source, target = write_tiff(tmp_path / "in.tif"), tmp_path / "out.tif"
    command = [sys.executable, "-c", SLOW, str(source), str(target)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        for line in running.stdout:
            if line.strip() == "3":
                os.kill(running.pid, signal.SIGKILL)
    assert not target.exists()
    engine = FakeEngine()
    process(source, target, engine, lambda done: None)
    assert engine.calls <= 3
    np.testing.assert_array_equal(tifffile.imread(target), np.invert(PLANES))


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"options": Options("refocused")}, "another on_distrust (captured, and now refocused)"),
        ({"options": Options(optics=KnownOptics(na=0.5, pixel_size_um=1.0))}, "another optics"),
        ({"options": Options(selection=Selection({"DAPI": "auto"}))}, "another channels"),
        ({"light_path": Path("rig.json")}, "another light_path (none, and now "),
    ],
)
def test_what_was_begun_otherwise_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changed: dict[str, Any], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("rig.json").write_text("{}", encoding="utf-8")
    source, target = write_tiff(tmp_path / "in.tif"), tmp_path / "out.tif"
    with pytest.raises(KeyboardInterrupt):
        process(source, target, Ending(2, KeyboardInterrupt()), lambda done: None)
    with pytest.raises(RefocusError) as caught:
        process(source, target, FakeEngine(), lambda done: None, **changed)
    assert said in str(caught.value)
    assert "remove" in str(caught.value)
    later = source.stat().st_mtime_ns + 10**9
    os.utime(source, ns=(later, later))
    with pytest.raises(RefocusError, match="another source"):
        process(source, target, FakeEngine(), lambda done: None)


def _touched(chunk: Path) -> None:
    later = chunk.stat().st_mtime_ns + 10**9
    os.utime(chunk, ns=(later, later))


def _shortened(chunk: Path) -> None:
    before = chunk.stat()
    chunk.write_bytes(chunk.read_bytes()[:-1])
    os.utime(chunk, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize("change", [_touched, _shortened, Path.unlink])
def test_pixels_of_a_zarr_that_changed_meanwhile_are_another_source(
    tmp_path: Path, change: Callable[[Path], None]
) -> None:
    source, target = tmp_path / "in.zarr", tmp_path / "out.zarr"
    write_zarr(source, [PLANES], "tyx")
    with pytest.raises(KeyboardInterrupt):
        process(source, target, Ending(2, KeyboardInterrupt()), lambda done: None)
    (chunk,) = (p for p in source.rglob("*") if p.is_file() and not p.name.startswith("."))
    change(chunk)
    with pytest.raises(RefocusError, match="was begun with another source") as caught:
        process(source, target, FakeEngine(), lambda done: None)
    assert "\n" not in str(caught.value)
    assert not target.exists()


@pytest.mark.parametrize(
    ("name", "beside", "counts"),
    [
        ("in.mrxs", "in/Data0000.dat", True),
        ("in.MRXS", "other/Data0000.dat", False),
        ("in.dcm", "level-1.DCM", True),
        ("in.vms", "in(1,0).jpg", True),
        ("in.vmu", "in.ngr", True),
        ("in.dcm", "notes.txt", False),
        ("in.svs", "other.svs", False),
    ],
)
@pytest.mark.parametrize("change", [_touched, _shortened, Path.unlink])
def test_files_beside_a_slide_are_of_the_source(
    tmp_path: Path, name: str, beside: str, counts: bool, change: Callable[[Path], None]
) -> None:
    source, other = tmp_path / name, tmp_path / beside
    other.parent.mkdir(exist_ok=True)
    for path in (source, other):
        path.write_bytes(b"pixels")
    before = identify(source)
    assert identify(source) == before
    change(other)
    assert (identify(source) != before) == counts


def _cut(content: bytes) -> bytes:
    return content[:500]


def _empty(content: bytes) -> bytes:  # as after a loss of power
    return b""


def _altered(content: bytes) -> bytes:
    return content[:-1] + bytes([content[-1] ^ 1])


def _of_nothing(content: bytes) -> bytes:
    return b"[]\n"


def _of_another_verdict(content: bytes) -> bytes:
    changed = content.replace(b'"refocused"', b'"in--focus"', 1)
    assert changed != content
    return changed


def _nested(content: bytes) -> bytes:
    line = b"[" * 100_000 + b"\n"
    return b"%d %b" % (zlib.crc32(line), line)


@pytest.mark.parametrize("damage", [_cut, _empty, _altered, _of_nothing, _nested])
def test_a_result_that_is_damaged_is_done_anew(
    tmp_path: Path, damage: Callable[[bytes], bytes]
) -> None:
    source, target = write_tiff(tmp_path / "in.tif"), tmp_path / "out.tif"
    with pytest.raises(KeyboardInterrupt):
        process(source, target, Ending(4, KeyboardInterrupt()), lambda done: None)
    (damaged, *_) = sorted(tmp_path.rglob("*.kept"))
    damaged.write_bytes(damage(damaged.read_bytes()))
    with pytest.raises(RefocusError, match="was damaged"):
        process(source, target, FakeEngine(), lambda done: None)
    process(source, target, FakeEngine(), lambda done: None)
    np.testing.assert_array_equal(tifffile.imread(target), np.invert(PLANES))


def test_a_verdict_that_was_changed_is_not_taken(tmp_path: Path) -> None:
    path = tmp_path / "0-0.kept"
    kept = Result(PLANES[0], np.ones((1, 1), np.float32), Said("refocused", 1.25))
    for read in (Result.load, Result.load_said):
        kept.save(path)
        assert Result.load_said(path) == Result.load(path).said == kept.said
        path.write_bytes(_of_another_verdict(path.read_bytes()))
        with pytest.raises(RefocusError, match="was damaged and is removed"):
            read(path)
        assert not path.exists()


def test_who_comes_while_another_is_at_work_is_refused(tmp_path: Path) -> None:
    source, target = write_tiff(tmp_path / "in.tif"), tmp_path / "out.tif"
    refused = []

    def meanwhile(_: Any) -> None:
        with pytest.raises(RefocusError, match="another process is at work on it; wait") as caught:
            process(source, target, FakeEngine(), lambda done: None)
        refused.append(caught.value)

    process(source, target, FakeEngine(), meanwhile)
    assert len(refused) == len(PLANES)
    np.testing.assert_array_equal(tifffile.imread(target), np.invert(PLANES))
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


class Killed(BaseException):
    """Ends a process as a kill does: nothing is cleaned up behind it."""


def end_while_removing(
    patch: pytest.MonkeyPatch, target: Path, at: int, error: type[BaseException]
) -> None:
    """End a run with an error when it removes its so-many-th file once the result is there."""
    calls = 0

    def removing(path: Path) -> None:
        nonlocal calls
        calls += target.exists()
        if calls == at + 1:
            calls += 1
            raise error
        remove(path)

    patch.setattr(progress, "remove", removing)


@pytest.mark.parametrize("at", range(4))
def test_who_ends_the_clean_up_ends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    source, target = write_tiff(tmp_path / "in.tif"), tmp_path / "out.tif"
    end_while_removing(monkeypatch, target, at, KeyboardInterrupt)
    assert process(source, target, FakeEngine(), lambda done: None).refocused == 6
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("at", range(4))
@pytest.mark.parametrize("again", ["the same", "another input"])
def test_what_a_kill_leaves_of_a_clean_up_is_never_used_and_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, again: str, at: int
) -> None:
    source, target = write_tiff(tmp_path / "in.tif"), tmp_path / "out.tif"
    with monkeypatch.context() as patch:
        patch.setattr(progress.Progress, "leave", lambda self: self._lock.release())
        end_while_removing(patch, target, at, Killed)
        with pytest.raises(Killed):
            process(source, target, FakeEngine(), lambda done: None)
    assert list(tmp_path.glob(".*"))
    if again == "the same":
        with pytest.raises(RefocusError, match="exists already"):
            process(source, target, FakeEngine(), lambda done: None)
    else:
        for path in tmp_path.glob("out.tif*"):
            path.unlink()
        tifffile.imwrite(source, PLANES[::-1], photometric="minisblack", metadata=None)
        process(source, target, FakeEngine(), lambda done: None)
        np.testing.assert_array_equal(tifffile.imread(target), np.invert(PLANES[::-1]))
    assert not list(tmp_path.glob(".*"))


def test_results_that_nothing_says_the_source_of_are_not_used(tmp_path: Path) -> None:
    source, target = write_tiff(tmp_path / "in.tif"), tmp_path / "out.tif"
    with pytest.raises(KeyboardInterrupt):
        process(source, target, Ending(4, KeyboardInterrupt()), lambda done: None)
    (tmp_path / ".out.tif.unfinished" / progress.BEGUN).unlink()
    tifffile.imwrite(source, PLANES[::-1], photometric="minisblack", metadata=None)
    process(source, target, FakeEngine(), lambda done: None)
    np.testing.assert_array_equal(tifffile.imread(target), np.invert(PLANES[::-1]))


def test_what_is_kept_outlives_a_file_that_took_the_place_of_the_result(tmp_path: Path) -> None:
    source, target = write_tiff(tmp_path / "in.tif"), tmp_path / "out.tif"
    with pytest.raises(KeyboardInterrupt):
        process(source, target, Ending(4, KeyboardInterrupt()), lambda done: None)
    target.touch()
    with pytest.raises(RefocusError, match="exists already"):
        process(source, target, FakeEngine(), lambda done: None)
    target.unlink()
    engine = FakeEngine()
    process(source, target, engine, lambda done: None)
    assert engine.calls <= 3


@pytest.mark.parametrize(
    ("error", "said", "status"),
    [(KeyboardInterrupt(), "interrupted", 130), (Stopped(), "terminated", 143)],
)
def test_who_ends_it_is_told_how_it_goes_on(  # noqa: PLR0917
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    error: BaseException,
    said: str,
    status: int,
) -> None:
    source = write_tiff(tmp_path / "in.tif")
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    monkeypatch.setattr("refocus.engine.open_engine", lambda *_, **__: Ending(2, error))
    monkeypatch.setattr(sys, "argv", ["", "process", str(source), str(tmp_path / "out.tif")])
    assert cli._main() == status
    (line,) = capfd.readouterr().err.splitlines()
    assert line.endswith(f"{said}; what is done is kept: the same command goes on")
