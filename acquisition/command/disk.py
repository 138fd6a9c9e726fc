"""The disk under a run: whether it can be written, has room, and still holds what was saved."""

import errno
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from refocus.acquisition.sinks.frame_lines import lines_path
from refocus.configs import RefocusError, one_line, reason_of
from refocus.configs.files import claim, is_no_file

RAW, REFOCUSED = "raw.ome.zarr", "refocused.ome.zarr"

LOOK_SECONDS = 0.1
"""How often the disk is looked at for what others write; what the run itself writes is counted."""

FRAME_EXTRA = 16 << 10
"""What a frame takes beside its pixels: the rest of a block, folders, lines of metadata, bytes."""


class Room:
    """Ends a run in good order before the disk is full.

    Frames are written asynchronously, and a disk that is full is only told of when they are
    closed: by then some are lost. So the acquisition asks before each of them, and a look at the
    disk says for how many more it need not be looked at again.

    Parameters
    ----------
    raw
        Where the raw frames are saved; the refocused ones, and lines of both, are beside it.
    frame_bytes
        Of one frame.
    cameras
        How many frames come at once.
    unwritten
        Tells how many frames, raw and refocused, are still to be written.
    """

    SPARE_BYTES = 16 << 20
    """For metadata, and for the report."""

    def __init__(
        self, raw: Path, frame_bytes: int, cameras: int, unwritten: Callable[[], int]
    ) -> None:
        self._raw = raw
        self._frame_bytes = frame_bytes + FRAME_EXTRA
        self._coming = 2 * (1 + cameras)  # the frame in hand and those of the next event, twice
        self._unwritten = unwritten
        self._asked = 0
        self._fit = 0

    def check(self) -> None:
        """Make sure that the next frame will fit, too. On the acquisition's thread.

        Raises
        ------
        RefocusError
            It will not, or the folder is gone.
        """
        self._asked += 1
        if self._asked > self._fit:
            self._count()

    def look(self) -> None:
        """See what others have written; the acquisition will be told when it asks. Any thread."""
        with suppress(RefocusError):
            self._count()

    def _count(self) -> None:
        """Note up to which frame all will fit."""
        fit = self._asked  # first of all: what comes meanwhile is counted twice, not missed
        frames = self._unwritten() + self._coming
        try:
            free = shutil.disk_usage(self._raw.parent).free
        except FileNotFoundError as error:
            raise RefocusError(
                f"{self._raw.parent}: is gone: something removes what this run saves; see what it "
                "is; the run was stopped"
            ) from error
        except OSError:  # it may be back at the next look; until then writing tells
            return
        left = free - self.SPARE_BYTES - self._metadata_bytes() - frames * self._frame_bytes
        self._fit = fit + max(0, left) // (2 * self._frame_bytes)  # raw and refocused
        if left < 0:
            raise _full(self._raw)

    def _metadata_bytes(self) -> int:
        """Tell how much is copied into the metadata at the end: all lines."""
        total = 0
        for name in (RAW, REFOCUSED):
            with suppress(OSError):  # not begun yet, or it could not be
                total += lines_path(self._raw.with_name(name)).stat().st_size
        return total


@contextmanager
def alone_in(save: Path | None) -> Iterator[None]:
    """Keep another run out of a folder, which is made, while this one is saved there.

    Raises
    ------
    RefocusError
        Another run is saved there.
    """
    descriptor = None
    with suppress(OSError):  # Windows opens no folder; what cannot be written, the next check says
        if save is not None:
            save.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(save, os.O_RDONLY)
    try:
        if descriptor is not None and not claim(descriptor):
            raise RefocusError(
                f"{save}: another run is being saved there; name another folder with --save"
            )
        yield
    finally:
        if descriptor is not None:
            os.close(descriptor)


def check_outputs(save: Path | None, report: Path | None) -> None:
    """Find out before the first frame whether the results can be written."""
    if save is not None:
        _refuse_unwritable(save)
        for path in (save / RAW, save / REFOCUSED):
            for there in (path, lines_path(path)):
                if there.exists():
                    raise RefocusError(
                        f"{there}: exists already, and is not overwritten; "
                        "name another folder with --save"
                    )
    if report is not None and (
        is_no_file(report)
        or report.suffix.lower() == ".png"
        or is_no_file(report.with_suffix(".png"))
    ):
        raise RefocusError(
            f"{report}: cannot be the report, which is a file, and beside it another of the same "
            "name in .png; name one that ends in .json, where no folder or device is"
        )
    for folder in (save, report.parent if report else None):
        if folder is None:
            continue
        try:
            folder.mkdir(parents=True, exist_ok=True)
            probe = folder / f".refocus-{time.monotonic_ns()}"
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise RefocusError(
                f"{folder}: cannot be written: {reason_of(error)}; name another folder"
            ) from error


def _refuse_unwritable(save: Path) -> None:
    """Refuse a name that the writer of an OME-Zarr cannot have."""
    try:
        str(save.absolute()).encode()
    except UnicodeEncodeError:
        raise RefocusError(
            f"{save}: is no name in UTF-8, or not in the locale that is set here, and no data can "
            "be saved there; name another folder, or set a locale of UTF-8"
        ) from None


def explained(error: Exception, raw: Path | None) -> RefocusError:
    """Say in one line why an acquisition ended early."""
    if _has_no_descriptors(error):
        where = f"{raw}: " if raw is not None else ""
        return RefocusError(
            f"{where}too many open files, and the last frames are missing; those saved before are "
            "kept: raise the limit (ulimit -n), or close what else this program has open"
        )
    if raw is not None and _is_full(raw, error):
        return RefocusError(
            f"{raw}: the disk is full, and the last frames are missing; those saved before are "
            "kept: free space, or save elsewhere"
        )
    return RefocusError(f"acquisition stopped early: {one_line(error)[:300]}")


def _full(path: Path) -> RefocusError:
    return RefocusError(
        f"{path}: the disk is full: the run was stopped, and what was captured is kept; "
        "free space, or save elsewhere"
    )


def _has_no_descriptors(error: Exception) -> bool:
    code = error.errno if isinstance(error, OSError) else None
    return code in (errno.EMFILE, errno.ENFILE) or "Too many open files" in str(error)


def _is_full(path: Path, error: Exception) -> bool:
    full = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    if isinstance(error, OSError) and error.errno in full:
        return True
    said = ("No space left", "RESOURCE_EXHAUSTED", "File too large", "quota exceeded")
    if any(text in str(error) for text in said):
        return True
    return path.parent.exists() and shutil.disk_usage(path.parent).free < 2**16
