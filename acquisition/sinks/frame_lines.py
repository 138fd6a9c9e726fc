"""What is known of each frame, a line of JSON each, beside the OME-Zarr that it is saved in.

ome-writers keeps it in memory until it closes the file: a run that is killed loses it, and a long
one fills the memory. A line is with the operating system when the frame is handed to the writer.
Once the file is closed, the lines are copied into it, where readers of an OME-Zarr expect them.
"""

import json
import logging
import os
import threading
from array import array
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from io import RawIOBase
from pathlib import Path
from typing import Any

from refocus.configs import RefocusError, reason_of
from refocus.configs.files import claim, replacing

logger = logging.getLogger("refocus.recorder")

ENDING = ".frames.jsonl"
OURS = ("group", "written_utc", "place", "index", "channel")
"""Keys of a line that the OME-Zarr says by where they stand in it."""
MARK = "\0frames\0"


def lines_path(zarr: Path) -> Path:
    """Say where the lines of an OME-Zarr are: ``raw.frames.jsonl`` beside ``raw.ome.zarr``."""
    return zarr.with_name(zarr.name.removesuffix(".zarr").removesuffix(".ome") + ENDING)


class FrameLines:
    """The lines of one OME-Zarr, while it is being written. For any thread.

    Parameters
    ----------
    zarr
        The OME-Zarr.
    append
        Go on with the lines that are there, instead of beginning anew.

    Raises
    ------
    OSError
        The file cannot be made.
    RefocusError
        Another program is writing it.
    """

    def __init__(self, zarr: Path, append: bool = False) -> None:
        self.zarr = zarr
        self.path = lines_path(zarr)
        self._lock = threading.Lock()
        self._failed = ""
        self._file = self._open()
        if not append and os.fstat(self._file.fileno()).st_size:
            self._file.truncate(0)

    def add(self, record: Mapping[str, Any]) -> None:
        """Write a line. A disk that takes none is told of once, and frames are still saved."""
        line = json.dumps(record).encode() + b"\n"
        with self._lock:
            if self._failed or self._file.closed:
                return
            at = self._file.tell()
            try:
                if self._file.write(line) != len(line):
                    raise OSError(0, "the disk is full")
            except OSError as error:
                self._failed = reason_of(error)
                with suppress(OSError):  # half a line
                    os.truncate(self.path, at)
                logger.error("%s: no more metadata are written: %s", self.path, self._failed)

    def keep(self, wanted: Callable[[Mapping[str, Any]], bool]) -> int:
        """Take out the lines that are not wanted, and what is half written; count those left."""
        kept = 0
        with self._lock:
            with replacing(self.path) as part:
                with self.path.open("rb") as lines, part.open("wb") as out:
                    for line in lines:
                        if (known := _parse(line)) and wanted(known):
                            out.write(line)
                            kept += 1
                self._file.close()
            self._file = self._open()
        return kept

    def _open(self) -> RawIOBase:
        # unbuffered: what is written is there, even if this process is killed the moment after
        file = self.path.open("ab", buffering=0)
        if not claim(file.fileno()):
            file.close()
            raise RefocusError(f"{self.zarr}: is being written by a run; wait until it is over")
        return file

    def close(self) -> None:
        """Let go of the file. May be called twice."""
        with self._lock:
            self._file.close()

    def copy_into_zarr(self) -> None:
        """Write the lines of each image into its metadata, once nobody else writes them.

        Raises
        ------
        OSError, ValueError
            The metadata cannot be read or written; the lines stay where they are.
        """
        self.close()
        starts: dict[str, array[int]] = {}
        with self.path.open("rb") as lines:
            at = 0
            for line in lines:
                if group := _parse(line).get("group"):
                    starts.setdefault(group, array("Q")).append(at)
                at += len(line)
            for group, of_group in starts.items():
                _copy_frames(self.zarr / group / "zarr.json", lines, of_group)


def read_lines(zarr: Path) -> Iterator[dict[str, Any]]:
    """Read the lines of an OME-Zarr one by one; what a kill left half written is passed over.

    Raises
    ------
    RefocusError
        There are none.
    """
    path = lines_path(zarr)
    try:
        with path.open("rb") as lines:
            yield from filter(None, map(_parse, lines))
    except OSError as error:
        raise RefocusError(
            f"{path}: not readable: {reason_of(error)}; give the folder of a run that was saved"
        ) from error


def _parse(line: bytes) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _copy_frames(document: Path, lines: Any, starts: "array[int]") -> None:
    """Rewrite one metadata file in one step, a frame at a time."""
    from ome_writers import __version__

    content = json.loads(document.read_text(encoding="utf-8"))
    about = content.setdefault("attributes", {}).setdefault("ome_writers", {"version": __version__})
    about["frame_metadata"] = MARK
    before, after = json.dumps(content).split(json.dumps(MARK))
    with replacing(document, shared=True) as part, part.open("w", encoding="utf-8") as out:
        out.write(before + "[")
        for number, start in enumerate(starts):
            lines.seek(start)
            known = {k: v for k, v in _parse(lines.readline()).items() if k not in OURS}
            out.write((", " if number else "") + json.dumps(known))
        out.write("]" + after)
