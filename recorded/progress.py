"""What is done of a data set, kept beside its place until all of it is."""

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from refocus.configs import RefocusError, reason_of
from refocus.configs.files import remove, replacing
from refocus.configs.terminal import Stopped
from refocus.optics.ome_zarr import is_zarr
from refocus.recorded.planes import log
from refocus.recorded.refocusing import Result, Said
from refocus.recorded.slide import files_beside
from refocus.recorded.survey import Survey

BEGUN, WHOLE, LOCK = "begun.json", "whole", "lock"
A_FOLDER = 1000
"""Planes whose regions lie in one folder: some disks are slow where a folder holds many files."""


class Progress:
    """A folder of what is done: a file for each region, and what began it.

    A file is there when it is whole, and its content does not depend on who wrote it or when, so
    several processes may write to one folder, and one that is killed leaves nothing but whole ones.

    Parameters
    ----------
    folder
        Its place.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.result = folder / "result"
        self._lock = FileLock(folder / LOCK, timeout=0)

    @classmethod
    def beside(cls, target: Path) -> "Progress":
        """Name the one of a target; one without a name of its own is refused by a RefocusError."""
        if not target.name:
            raise RefocusError(f"{target}: is no name for a result; name a file or folder in it")
        return cls(target.with_name(f".{target.name}.unfinished"))

    @property
    def is_begun(self) -> bool:
        """Whether something is there to go on with, and its result has not taken its place."""
        has_moved = (self.folder / WHOLE).exists() and not self.result.exists()
        return (self.folder / BEGUN).exists() and not has_moved

    def begin(self, said: dict[str, Any], target: Path) -> None:
        """Begin, or go on with what the same model, options and source began, alone.

        Raises
        ------
        RefocusError
            It was begun otherwise, or another process is at it.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            self._lock.acquire()
        except Timeout as error:
            raise RefocusError(
                f"{target}: another process is at work on it; wait until it has ended, or end it"
            ) from error
        try:
            self._begin(said, target)
        except BaseException:
            self._lock.release()
            raise

    def _begin(self, said: dict[str, Any], target: Path) -> None:
        path = self.folder / BEGUN
        if not self.is_begun:
            self._clear()  # what an ended removal left may be of another source
            with replacing(path) as part:
                part.write_text(json.dumps(said, indent=2) + "\n", encoding="utf-8")
            return
        try:
            before = json.loads(path.read_text(encoding="utf-8"))
            other = [key for key in said if before.get(key) != said[key]]
        except (ValueError, AttributeError) as error:
            raise RefocusError(
                f"{path}: not readable ({reason_of(error)}); remove {self.folder}"
            ) from error
        if other:
            key = other[0]
            raise RefocusError(
                f"{target}: was begun with another {key} ({_short(before.get(key))}, and now "
                f"{_short(said[key])}); give the same again, or remove {self.folder}"
            )

    def has(self, plane: int, region: int) -> bool:
        """Say whether a region is done."""
        return self.path(plane, region).exists()

    def path(self, plane: int, region: int) -> Path:
        """Name the file of a region."""
        return self.folder / f"{plane // A_FOLDER}" / f"{plane}-{region}.kept"

    def load(self, plane: int, region: int) -> Result:
        """Read a region back; see :meth:`Result.load`."""
        return Result.load(self.path(plane, region))

    def said(self, plane: int, region: int) -> Said:
        """Read back what is said of a region."""
        return Result.load_said(self.path(plane, region))

    def survey(self, plane: int) -> Survey | None:
        """Give what is known of a plane from a first pass over it; None where there was none."""
        try:
            return Survey(*json.loads(self._survey(plane).read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None

    def keep_survey(self, plane: int, found: Survey) -> None:
        """Keep that."""
        with replacing(self._survey(plane)) as part:
            part.write_text(json.dumps(found), encoding="utf-8")

    def clear_result(self) -> None:
        """Remove a result that was begun: all of it is made again of what is done."""
        remove(self.folder / WHOLE)
        remove(self.result)

    def finish(self, target: Path) -> None:
        """Let the result take its place, and remove all else."""
        (self.folder / WHOLE).touch()  # a kill from here on leaves nothing to go on with
        self.result.replace(target)
        try:
            self.remove()
        except (KeyboardInterrupt, Stopped):  # too late to end anything
            self.remove()
        except OSError as error:
            log.warning("%s: not removed (%s); remove it", self.folder, reason_of(error))

    def leave(self) -> None:
        """Keep what is done, and nothing else; nothing at all where nothing is."""
        if not self._lock.is_locked:  # all is removed, and another may be at it by now
            return
        if self.is_begun:
            self.clear_result()
        if not self.is_begun or not any(self.folder.glob("*/*.kept")):
            self.remove()
        self._lock.release()

    def tidy(self) -> None:
        """Remove what is left of a run that was killed when its result had taken its place."""
        if self.folder.is_dir() and not self.is_begun:
            with suppress(OSError), self._lock:  # another one's, or for another one to remove
                self.remove()

    def remove(self) -> None:
        """Remove all of it."""
        self._clear()
        self._lock.release()  # some systems remove no file that is open
        remove(self.folder)

    def _clear(self) -> None:
        """Remove all but the lock; first of all what says that there is something to go on with."""
        remove(self.folder / BEGUN)
        for path in self.folder.glob("*"):
            if path.name != LOCK:
                remove(path)

    def _survey(self, plane: int) -> Path:
        return self.path(plane, 0).with_name(f"{plane}-survey.json")


def identify(source: Path) -> dict[str, Any]:
    """Describe a source, so that another one, or one that changed, is told from it.

    By names, sizes and times of its files, of the chunks of a Zarr and of those that a slide has
    beside it too; none is opened.
    """
    if source.is_dir():
        states = list(_states(source))
    else:
        files = (source, *files_beside(source))
        states = [_state(os.path.relpath(path, source.parent), path.stat()) for path in files]
    digest = hashlib.sha256("\n".join(sorted(states)).encode(errors="surrogateescape"))
    return {"path": str(source.resolve()), "files": digest.hexdigest()[:16]}


def _states(root: Path) -> Iterator[str]:
    """Describe the files of a folder; of a Zarr, those in its folders as well."""
    folders, deep = [str(root)], is_zarr(root)
    while folders:
        with os.scandir(folders.pop()) as entries:
            for entry in entries:
                if entry.is_file():
                    yield _state(os.path.relpath(entry.path, root), entry.stat())
                elif deep and entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)


def _state(name: str, found: os.stat_result) -> str:
    return f"{name} {found.st_size} {found.st_mtime_ns}"


def _short(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, dict):
        value = " ".join(str(v)[:60] for v in value.values() if v not in ("", None))
    return str(value) or "none"
