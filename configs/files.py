"""Files that are there when they are whole."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a place beside a file: what is written there takes the file's place, all of it or none.

    Parameters
    ----------
    path
        It need not be there; folders on the way are made.

    Yields
    ------
    Path
        Where to write. What is there after an error is removed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield part
        part.replace(path)
    finally:
        with suppress(OSError):  # what went wrong first is what is told
            part.unlink(missing_ok=True)
