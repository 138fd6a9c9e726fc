"""Files that are there when they are whole."""

import secrets
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
    """
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
