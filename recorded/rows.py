"""Rows of a plane on their way: cut to other heights, and kept in a file until they are needed."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from refocus.recorded.levels import Shrinking
from refocus.recorded.planes import Plane


def in_heights(bands: Iterable[Plane], height: int) -> Iterator[Plane]:
    """Cut bands of rows to bands of one height; the last may be lower."""
    kept: list[Plane] = []
    there = 0
    for band in bands:
        kept.append(band)
        there += len(band)
        if there < height:
            continue
        rows = np.concatenate(kept) if len(kept) > 1 else band
        for start in range(0, there - height + 1, height):
            yield rows[start : start + height]
        rest = there % height
        kept = [rows[there - rest :].copy()] if rest else []
        there = rest
    if there:
        yield np.concatenate(kept)


class RowsFile:
    """Rows in a file, so that a plane of any size takes no memory.

    Parameters
    ----------
    path
        Its place; it is removed on :meth:`close`.
    width, dtype
        Of the rows.
    """

    def __init__(self, path: Path, width: int, dtype: Any) -> None:
        self._path, self._width, self._dtype = path, width, np.dtype(dtype)
        self._file = path.open("w+b")

    def append(self, rows: Plane) -> None:
        """Add rows at the end."""
        self._file.seek(0, 2)
        self._file.write(np.ascontiguousarray(rows, self._dtype).tobytes())

    def bands(self, height: int = 256) -> Iterator[Plane]:
        """Give all rows from the first, band by band."""
        self._file.seek(0)
        while data := self._file.read(height * self._width * self._dtype.itemsize):
            yield np.frombuffer(data, self._dtype).reshape(-1, self._width)

    def clear(self) -> None:
        """Begin again without rows."""
        self._file.truncate(0)

    def close(self) -> None:
        """Remove it."""
        self._file.close()
        self._path.unlink(missing_ok=True)


def shrunk_on_the_way(
    bands: Iterable[Plane], levels: list[tuple[Shrinking, RowsFile]]
) -> Iterator[Plane]:
    """Hand rows on, and keep what smaller levels are made of them."""
    for band in bands:
        for level, kept in levels:
            for rows in level.rows(band):
                kept.append(rows)
        yield band
