"""Pixels of an OME-Zarr image: its first level, and the smaller ones as the planes go by."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from itertools import product, zip_longest
from math import prod
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from refocus.optics.ome_zarr import reason_read
from refocus.recorded.levels import Copying, Shrinking, spans
from refocus.recorded.planes import ROWS, Bands, Plane
from refocus.recorded.rows import RowsFile, in_heights

LARGEST_BLOCK = 1 << 28
"""Bytes of rows that are held until they fill chunks."""
MOST, MOST_BYTES = 8, LARGEST_BLOCK // 8
"""Writes under way, and the bytes of those before the latest."""

Index = tuple[int, ...]
Captured = Callable[[Index, slice], Plane]
"""Gives rows of a plane of a level."""


class UnderWay:
    """Writes that the disk has not confirmed yet, while the next one is made; waits on leaving."""

    def __init__(self) -> None:
        self._writes: deque[tuple[Any, Any, int]] = deque()

    def add(self, array: Any, place: tuple[slice, ...], pixels: NDArray[Any]) -> None:
        """Write pixels, which must not change any more, to a place of an array."""
        self._writes.append((array[place].write(pixels), array, pixels.nbytes))
        while len(self._writes) > MOST or self._bytes > MOST_BYTES:
            self._wait()

    def finish(self) -> None:
        """Wait for all of them.

        Raises
        ------
        OSError
            From here, or from :meth:`add`: something could not be written.
        """
        while self._writes:
            self._wait()

    @property
    def _bytes(self) -> int:
        """Of what is under way beside the latest."""
        return sum(size for *_, size in self._writes) - self._writes[-1][2]

    def _wait(self) -> None:
        write, array, _ = self._writes.popleft()
        try:
            write.result()
        except ValueError as error:  # how tensorstore says that a disk is full
            where = str(array.spec().kvstore.path)
            raise OSError(None, reason_read(error), where) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *error: object) -> None:
        while kind is not None and self._writes:  # nothing is to be written into what is removed
            with suppress(Exception):  # what went wrong first is what is told
                self._wait()
        self.finish()


def write_image(  # noqa: PLR0917
    arrays: list[Any],
    numbers: NDArray[np.int64],
    bands: Bands,
    beside: Path,
    under_way: UnderWay,
    captured: Sequence[Captured] = (),
) -> None:
    """Write an image and its levels.

    Parameters
    ----------
    arrays
        Open, y and x as their last axes, the largest first.
    numbers
        Of the planes, along the axes other than y and x.
    bands
        Pixels of each.
    beside
        A name for a file of rows that wait until they fill chunks.
    under_way
        Takes the writes; the last ones may not be finished on return.
    captured
        Read the smaller levels as captured, for planes that stay so; without, those are averaged.
    """
    full, *smaller = arrays
    levels = list(zip_longest(smaller, captured))
    on_the_way = [(a, had) for a, had in levels if a.shape[:-2] == full.shape[:-2]]
    for block in _blocks(full):
        shape = tuple(len(axis) for axis in block)
        places = list(product(*(range(n) for n in shape)))
        indices = [_at(block, place) for place in places]
        planes = [bands.rows(int(numbers[index])) for index in indices]
        written = [full, *(level for level, _ in on_the_way)]
        outs = [_Out(array, block, beside, under_way) for array in written]
        stay = [bands.stays(int(numbers[index])) for index in indices]
        shrinking = [
            [
                _shrinking(full, level, partial(had, index) if had and stays else None)
                for index, stays in zip(indices, stay, strict=True)
            ]
            for level, had in on_the_way
        ]
        try:
            for rows in zip(*(in_heights(plane, ROWS) for plane in planes), strict=True):
                outs[0].add(np.stack(rows))
                for out, each in zip(outs[1:], shrinking, strict=True):
                    made = zip(*(s.rows(r) for s, r in zip(each, rows, strict=True)), strict=True)
                    for level_rows in made:
                        out.add(np.stack(level_rows))
            for out in outs:
                out.finish()
        finally:
            for out in outs:
                out.close()
    for level in smaller:
        if level.shape[:-2] != full.shape[:-2]:
            under_way.finish()
            _average(full, level, beside, under_way)


def _shrinking(full: Any, level: Any, had: Callable[[slice], Plane] | None) -> Shrinking:
    how = full.shape[-2:], level.shape[-2:], level.dtype.numpy_dtype
    return Copying(*how, had) if had else Shrinking(*how)


class _Out:
    """Writes rows of a block of planes whenever they fill a row of chunks.

    Rows that would take too much memory wait in a file, and are written one chunk after the other.
    """

    def __init__(
        self, array: Any, block: tuple[range, ...], beside: Path, under_way: UnderWay
    ) -> None:
        self._array, self._row, self._under_way = array, 0, under_way
        self._where = tuple(slice(axis[0], axis[-1] + 1) for axis in block)
        self._shape = tuple(len(axis) for axis in block)
        self._planes = prod(self._shape)
        height, self._width = array.shape[-2:]
        chunk = array.chunk_layout.write_chunk.shape
        self._height, self._chunk = min(chunk[-2], height), min(chunk[-1], self._width)
        self._dtype = array.dtype.numpy_dtype.newbyteorder("=")
        size = self._planes * self._height * self._width * self._dtype.itemsize
        if size < LARGEST_BLOCK // 8:  # several rows of chunks, which are encoded side by side
            self._height *= LARGEST_BLOCK // 8 // size
        self._file: RowsFile | None = None
        if size > LARGEST_BLOCK:
            path = beside.with_name(f"{beside.name}-{id(self)}")
            self._file = RowsFile(path, self._width, self._dtype)
        self._kept: list[NDArray[Any]] = []
        self._there = 0

    def add(self, rows: NDArray[Any]) -> None:
        """Take rows of each plane, ``(planes, h, W)``."""
        while rows.shape[1]:
            part, rows = np.split(rows, [self._height - self._there], 1)
            self._keep(part)
            if self._there == self._height:
                self.finish()

    def finish(self) -> None:
        """Write what is kept."""
        if not self._there:
            return
        rows = slice(self._row, self._row + self._there)
        if self._file is None:
            band = np.concatenate(self._kept, 1) if len(self._kept) > 1 else self._kept[0]
            self._put(rows, slice(0, self._width), band)
        else:
            for left in range(0, self._width, self._chunk):
                columns = slice(left, min(left + self._chunk, self._width))
                self._put(rows, columns, self._read(columns))
            self._file.clear()
        self._kept, self._row, self._there = [], rows.stop, 0

    def close(self) -> None:
        """Remove the file."""
        if self._file is not None:
            self._file.close()

    def _keep(self, part: NDArray[Any]) -> None:
        self._there += part.shape[1]
        if self._file is None:
            self._kept.append(part)
        else:
            for row in np.moveaxis(part, 1, 0):
                self._file.append(row)

    def _read(self, columns: slice) -> NDArray[Any]:
        assert self._file is not None
        found = [band[:, columns] for band in self._file.bands(self._planes)]
        return np.stack(found, 1)

    def _put(self, rows: slice, columns: slice, pixels: NDArray[Any]) -> None:
        shape = (*self._shape, *pixels.shape[1:])
        place = (*self._where, rows, columns)
        self._under_way.add(self._array, place, np.ascontiguousarray(pixels).reshape(shape))


def _average(full: Any, smaller: Any, beside: Path, under_way: UnderWay) -> None:
    """Make a level that has fewer planes than the first, of what was written of it."""
    for block in _blocks(smaller):
        out = _Out(smaller, block, beside, under_way)
        shape = tuple(len(axis) for axis in block)
        rows = [
            _averaged(full, smaller, _at(block, place))
            for place in product(*(range(n) for n in shape))
        ]
        try:
            for bands in zip(*rows, strict=True):
                out.add(np.stack(bands))
            out.finish()
        finally:
            out.close()


def _averaged(full: Any, smaller: Any, index: Index) -> Iterator[Plane]:
    """Give the rows of one plane of a level: the mean of all that it is made of."""
    sizes = zip(full.shape[:-2], smaller.shape[:-2], strict=True)
    reach = [range(*spans(n, m)[i]) for (n, m), i in zip(sizes, index, strict=True)]
    places = list(product(*reach))
    dtype = smaller.dtype.numpy_dtype.newbyteorder("=")
    shrinking = Shrinking(full.shape[-2:], smaller.shape[-2:], dtype, len(places))
    for top in range(0, full.shape[-2], ROWS):
        total = np.zeros((min(ROWS, full.shape[-2] - top), full.shape[-1]), np.uint32)
        for place in places:
            total += full[(*place, slice(top, top + len(total)))].read().result()
        yield from shrinking.rows(total)


def _at(block: tuple[range, ...], place: Index) -> Index:
    return tuple(axis[i] for axis, i in zip(block, place, strict=True))


def _blocks(array: Any) -> Iterator[tuple[range, ...]]:
    """Cut the axes other than y and x into blocks of whole chunks, while those fit the memory."""
    shape, chunk = array.shape[:-2], array.chunk_layout.write_chunk.shape[:-2]
    rows = min(ROWS, array.shape[-2])
    if prod(chunk) * rows * array.shape[-1] * array.dtype.numpy_dtype.itemsize > LARGEST_BLOCK:
        chunk = (1,) * len(chunk)
    axes = [
        [range(start, min(start + step, length)) for start in range(0, length, step)]
        for length, step in zip(shape, chunk, strict=True)
    ]
    yield from product(*axes)
