"""The file that a writer and its readers map: made, locked, deleted, and deleted for the dead.

A writer holds a lock on its file, which the system takes from it however it ends. So a file that
can be locked has no writer, whatever process or container it came from.
"""

import contextlib
import errno
import mmap
import os
import secrets
import stat
import sys
import tempfile
import weakref
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from refocus.configs import RefocusError

PREFIX = "refocus-frames-"
MAGIC = b"refocus frames 1"
PAGE = 4096

Bytes = NDArray[np.uint8]


class SharedFile:
    """A file of zeros, mapped; deleted when closed, forgotten, or at the end of the process.

    Parameters
    ----------
    folder
        Where to make it.
    size
        Bytes.

    Attributes
    ----------
    path
        Where it is.
    content
        ``(size,)``, to be written to; it begins with ``MAGIC``.

    Raises
    ------
    OSError
        There is no room.
    """

    def __init__(self, folder: Path, size: int) -> None:
        self.path, descriptor = _create(folder)
        try:
            if sys.platform == "linux":
                # to run out of room later would be a signal that kills the process
                os.posix_fallocate(descriptor, 0, size)
            else:
                os.ftruncate(descriptor, size)
            mapped = mmap.mmap(descriptor, size, **_mapping(writable=True))
        except (OSError, ValueError):
            _delete(self.path, descriptor, os.getpid())
            raise
        self._delete = weakref.finalize(self, _delete, self.path, descriptor, os.getpid())
        mapped[: len(MAGIC)] = MAGIC
        self.content: Bytes = np.frombuffer(mapped, np.uint8)

    def close(self) -> None:
        """Delete it; whoever has it mapped keeps it until they let go. May be called twice."""
        self._delete()


def map_for_reading(file: str) -> Bytes:
    """Map a writer's file, read-only.

    Raises
    ------
    OSError
        It cannot be opened.
    RefocusError
        It is no file of frames.
    """
    stranger = RefocusError(f"shared memory {file}: no file of frames; see what publishes there")
    if not Path(file).name.startswith(PREFIX):
        raise stranger
    flags = (getattr(os, name, 0) for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_BINARY"))
    descriptor = os.open(file, os.O_RDONLY | sum(flags))
    try:
        state = os.fstat(descriptor)
        if state.st_size < PAGE or not stat.S_ISREG(state.st_mode):
            raise stranger
        mapped = mmap.mmap(descriptor, 0, **_mapping(writable=False))
    finally:
        os.close(descriptor)
    if mapped[: len(MAGIC)] != MAGIC:
        raise stranger
    return np.frombuffer(mapped, np.uint8)


def default_folders() -> tuple[Path, ...]:
    """Give the folders to try, best first: memory, then the folder for temporary files."""
    memory, temporary = Path("/dev/shm"), Path(tempfile.gettempdir())
    usable = sys.platform == "linux" and os.access(memory, os.W_OK | os.X_OK)
    return (memory, temporary) if usable else (temporary,)


def remove_stale(folder: Path) -> list[Path]:
    """Delete the files in ``folder`` whose writers were killed, and give their paths."""
    return [path for path in sorted(folder.glob(PREFIX + "*")) if _remove_if_stale(path)]


def _remove_if_stale(path: Path) -> bool:
    try:
        if sys.platform == "win32":
            path.unlink()  # refused while anyone has it open
            return True
        descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            _lock(descriptor)
            path.unlink()
            return True
        finally:
            os.close(descriptor)
    except OSError:
        return False  # locked by its writer, another user's, or gone by now


def _create(folder: Path) -> tuple[Path, int]:
    """Create a file that only this user can read, and lock it."""
    for _ in range(20):
        path = folder / f"{PREFIX}{secrets.token_hex(6)}"
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
        descriptor = os.open(path, flags, 0o600)
        try:
            _lock(descriptor)
            if sys.platform == "win32" or os.path.samestat(os.fstat(descriptor), path.stat()):
                return path, descriptor
        except OSError:
            pass  # before it was locked, another program that has just started took it for stale
        _delete(path, descriptor, os.getpid())
    raise OSError(errno.EEXIST, "no file could be made", str(folder))


def _lock(descriptor: int) -> None:
    """Lock a file, or raise OSError; on Windows an open file is safe without."""
    if sys.platform != "win32":
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _delete(path: Path, descriptor: int, owner: int) -> None:
    if os.getpid() != owner:
        return  # a fork of the writer
    if sys.platform == "win32":
        os.close(descriptor)
    with contextlib.suppress(OSError):  # Windows, while mapped: the next writer deletes it
        path.unlink(missing_ok=True)
    if sys.platform != "win32":
        os.close(descriptor)


def _mapping(writable: bool) -> dict[str, int]:
    """Choose the settings of a mapping, with its page tables made now and not frame by frame."""
    if not hasattr(mmap, "MAP_POPULATE"):
        return {"access": mmap.ACCESS_WRITE if writable else mmap.ACCESS_READ}
    writing = mmap.PROT_WRITE if writable else 0
    return {"flags": mmap.MAP_SHARED | mmap.MAP_POPULATE, "prot": mmap.PROT_READ | writing}
