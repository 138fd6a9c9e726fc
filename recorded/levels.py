"""Smaller levels of a pyramid, averaged row by row as a plane goes by."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refocus.recorded.planes import Plane

AT_ONCE = 256
"""Rows that are summed at a time: sums are wider than pixels."""


def spans(large: int, small: int) -> list[tuple[int, int]]:
    """Give, for each pixel along an axis of a level, those of the larger one that it averages."""
    return [
        (i * large // small, max(i * large // small + 1, -(-(i + 1) * large // small)))
        for i in range(small)
    ]


class Shrinking:
    """Averages a plane down to a level while its rows go by, whatever bands they come in.

    Sums are of integers, so they are exact, and a result is the same however the plane was cut.

    Parameters
    ----------
    shape
        ``(H, W)`` of the plane.
    smaller
        ``(H, W)`` of the level.
    dtype
        Of its pixels.
    depth
        Planes of which each row that is given is the sum.
    """

    def __init__(
        self, shape: tuple[int, int], smaller: tuple[int, int], dtype: Any, depth: int = 1
    ) -> None:
        self.shape = smaller
        self._rows = spans(shape[0], smaller[0])
        self._columns = spans(shape[1], smaller[1])
        self._dtype, self._depth = np.dtype(dtype), depth
        self._first, self._made = 0, 0
        self._kept = np.zeros((0, smaller[1]), np.uint64)

    def rows(self, band: NDArray[Any]) -> Iterator[Plane]:
        """Give the rows of the level that are complete with these."""
        for start in range(0, len(band), AT_ONCE):
            yield from self._some(band[start : start + AT_ONCE])

    def _some(self, band: NDArray[Any]) -> Iterator[Plane]:
        narrow = _sums(band, self._columns, 1)
        self._kept = np.concatenate([self._kept, narrow]) if len(self._kept) else narrow
        ready, there = self._made, self._first + len(self._kept)
        while ready < len(self._rows) and self._rows[ready][1] <= there:
            ready += 1
        if ready == self._made:
            return
        wanted = [(a - self._first, b - self._first) for a, b in self._rows[self._made : ready]]
        across = np.array([b - a for a, b in self._columns], np.float64)
        down = np.array([b - a for a, b in wanted], np.float64)
        mean = _sums(self._kept, wanted, 0) / (down[:, None] * across * self._depth)
        self._made = ready
        if ready < len(self._rows):
            self._kept = self._kept[self._rows[ready][0] - self._first :].copy()
            self._first = self._rows[ready][0]
        yield np.rint(mean).astype(self._dtype)


class Copying(Shrinking):
    """Gives the rows of a level as it was, in the steps in which they would be averaged.

    Parameters
    ----------
    shape, smaller, dtype
        As :class:`Shrinking` takes them.
    read
        Gives rows of the level.
    """

    def __init__(
        self,
        shape: tuple[int, int],
        smaller: tuple[int, int],
        dtype: Any,
        read: Callable[[slice], Plane],
    ) -> None:
        super().__init__(shape, smaller, dtype)
        self._read, self._given = read, 0

    def rows(self, band: NDArray[Any]) -> Iterator[Plane]:
        """Give the rows of the level that would be complete with these."""
        for made in super().rows(band):
            begins, self._given = self._given, self._given + len(made)
            yield self._read(slice(begins, self._given))


def _sums(pixels: NDArray[Any], wanted: list[tuple[int, int]], axis: int) -> NDArray[np.uint64]:
    """Add up spans along an axis."""
    steps = {b - a for a, b in wanted}
    length = wanted[-1][1] - wanted[0][0]
    whole: NDArray[np.uint64]
    if len(steps) == 1 and length == len(wanted) * (step := steps.pop()):  # nothing overlaps
        part = pixels[wanted[0][0] : wanted[-1][1]] if axis == 0 else pixels[:, wanted[0][0] :]
        part = part[:, :length] if axis == 1 else part
        shape = (-1, step, part.shape[1]) if axis == 0 else (part.shape[0], -1, step)
        whole = part.reshape(shape).sum(axis + 1, dtype=np.uint64)
        return whole
    before = np.zeros([n + int(axis == side) for side, n in enumerate(pixels.shape)], np.uint64)
    np.cumsum(pixels, axis, np.uint64, before[1:] if axis == 0 else before[:, 1:])
    first, last = np.array(wanted).T
    return before[last] - before[first] if axis == 0 else before[:, last] - before[:, first]
