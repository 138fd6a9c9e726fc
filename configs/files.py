"""Files that are there when they are whole, and folders that are a user's own."""

import errno
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def replacing(path: Path, shared: bool = False) -> Iterator[Path]:
    """Give a place beside a file: what is written there takes the file's place, all of it or none.

    A link is replaced by a file, the mode of the file before is not kept, and nothing is forced to
    the disk. There is one writer of a file at a time, unless it is ``shared``.

    Parameters
    ----------
    path
        It need not be there; folders on the way are made.
    shared
        Whether others may write the same file at the same time: each has a place of its own then,
        and the last to end counts. What a kill leaves stays there; else the next writer takes it
        over.

    Yields
    ------
    Path
        Where to write. What is there after an error is removed.

    Raises
    ------
    OSError
        It cannot be written; or what is there is no file, such as a device, and would be lost.
    """
    if is_no_file(path):
        raise OSError(errno.EEXIST, "is there, and is no regular file", str(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    own = f".{secrets.token_hex(4)}" if shared else ""
    part = path.with_name(f".{path.name}{own}.part")
    try:
        yield part
        part.replace(path)
    except BaseException:
        with suppress(OSError):  # what went wrong first is what is told
            part.unlink(missing_ok=True)
        raise


def named(path: str | Path) -> Path:
    """Give the path that somebody names: ``~`` is the home folder, though no shell has said so.

    A shell does not, in ``--save=~/run1`` or between quotes; and who writes an OME-Zarr would take
    it for that later.
    """
    told = Path(os.path.expanduser(path))
    return told.absolute() if told.parts[:1] and told.parts[0].startswith("~") else told


def claim(descriptor: int) -> bool:
    """Lock an open file or folder until it is closed; False where another program has it.

    True, too, where there are no locks (Windows, some file systems): nobody can tell.
    """
    try:
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except (ImportError, OSError):
        pass
    return True


def is_no_file(path: Path) -> bool:
    """Tell whether something is there that is no file: a folder, a pipe, a device."""
    return path.exists() and not path.is_file()


def make_writable(folder: Path) -> None:
    """Let the user read and write all in a folder, as what is copied from an archive may not be."""
    for place, _, files in os.walk(folder):
        os.chmod(place, os.stat(place).st_mode | 0o700)
        for name in files:
            file = os.path.join(place, name)
            if os.path.islink(file):  # it is somewhere else, and not copied
                continue
            os.chmod(file, os.stat(file).st_mode | 0o600)


def remove(path: Path) -> None:
    """Remove a file or a folder, whether its user may write in it or not; nothing if not there."""
    if path.is_dir() and not path.is_symlink():
        with suppress(OSError):  # what cannot be had, the removal will tell of
            make_writable(path)
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
