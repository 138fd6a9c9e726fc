"""A plane of what its regions came to: without a seam, trusted as far as each tile is."""

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from itertools import product

import numpy as np
from numpy.typing import NDArray

from refocus.engine.trust.judgement import TILE, UNRATED, blend
from refocus.recorded.planes import Plane, RecordedPlane
from refocus.recorded.refocusing import Result
from refocus.recorded.regions import Grid, Region
from refocus.recorded.survey import Survey

NEAR = (-1, 0, 1)
KEPT = 12
"""Results that are kept while their neighbours are put together."""
NEXT = {-1: slice(-1, None), 0: slice(None), 1: slice(0, 1)}
"""Tiles of the region before, of the same and of the one after, that lie next to a region."""


class Assembly:
    """Puts a plane together.

    Parameters
    ----------
    plane
        As captured.
    grid
        How it is cut.
    survey
        Of the whole of it; None where it is one region.
    captured
        What is not trusted stays as captured.
    result
        Gives that of a region by its number.
    """

    def __init__(
        self,
        plane: RecordedPlane,
        grid: Grid,
        survey: Survey | None,
        captured: bool,
        result: Callable[[int], Result],
    ) -> None:
        self._plane, self._grid, self._survey = plane, grid, survey
        self._captured, self._result = captured, lru_cache(KEPT)(result)

    def row(self, number: int) -> Plane:
        """Give the rows of the plane that a row of the grid covers, as they are to be written."""
        regions = [self._grid[n] for n in self._grid.row(number)]
        height = regions[0].core[0].stop - regions[0].core[0].start
        band = np.empty((height, self._grid.shape[1]), self._plane.dtype)
        for region in regions:
            band[:, region.core[1]] = self._region(region)
        return band

    def _region(self, region: Region) -> Plane:
        if self._survey is None:
            return self._at(region.place).pixels
        refocused = self._mixed(region) if self._grid.fade else self._at(region.place).pixels
        trusted = self._trusted(region, refocused) if self._captured else refocused
        top = (1 << self._plane.bits) - 1
        # where the plane lies above the range itself, the bit depth is not its own
        if top < np.iinfo(trusted.dtype).max and self._survey.top <= top:
            trusted = np.minimum(trusted, trusted.dtype.type(top))
        return trusted

    def _mixed(self, region: Region) -> Plane:
        """Mix a region with its neighbours where they meet, so that one fades into the other."""
        fade = self._grid.fade
        whole = np.zeros([s.stop - s.start for s in region.core], np.float32)
        weights = [
            _weights(core, place, count, fade)
            for core, place, count in zip(region.core, region.place, self._grid.counts, strict=True)
        ]
        for down, along in product(*weights):
            other = self._near(region, (down, along))
            assert other is not None
            (rows, of_rows), (columns, of_columns) = weights[0][down], weights[1][along]
            origin = [
                core.start - read.start - kept.start
                for core, read, kept in zip(
                    region.core, other.read, other.within(fade), strict=True
                )
            ]
            pixels = self._at(other.place).pixels[
                _moved(rows, origin[0]), _moved(columns, origin[1])
            ]
            whole[rows, columns] += pixels * (of_rows[:, None] * of_columns)
        mixed: Plane = np.rint(whole).astype(self._plane.dtype)
        return mixed

    def _trusted(self, region: Region, refocused: Plane) -> Plane:
        """Take what is trusted; towards a tile of the next region that is not, less and less."""
        share = self._share(region)
        if (share == 1).all():
            return refocused
        around = [
            slice(max(0, core.start - TILE), min(n, core.stop + TILE))
            for core, n in zip(region.core, self._grid.shape, strict=True)
        ]
        captured = self._plane.read(around[0], around[1])
        inner = tuple(
            slice(core.start - seen.start, core.stop - seen.start)
            for core, seen in zip(region.core, around, strict=True)
        )
        if not share.any():
            return captured[inner]
        wide = captured.copy()
        wide[inner] = refocused
        return blend(captured, wide, replace(UNRATED, share=share), in_place=True)[inner]

    def _share(self, region: Region) -> NDArray[np.float32]:
        """Give how much is taken of the tiles of a region, and of those around it."""
        rows = []
        for down in NEAR:
            beside = [(along, self._near(region, (down, along))) for along in NEAR]
            row = [
                self._at(other.place).share[NEXT[down], NEXT[along]]
                for along, other in beside
                if other is not None
            ]
            rows += [np.concatenate(row, 1)] if row else []
        return np.concatenate(rows)

    def _near(self, region: Region, steps: tuple[int, int]) -> Region | None:
        place = region.place[0] + steps[0], region.place[1] + steps[1]
        counts = self._grid.counts
        inside = 0 <= place[0] < counts[0] and 0 <= place[1] < counts[1]
        return self._grid[place[0] * counts[1] + place[1]] if inside else None

    def _at(self, place: tuple[int, int]) -> Result:
        return self._result(place[0] * self._grid.counts[1] + place[1])


def _moved(part: slice, by: int) -> slice:
    return slice(part.start + by, part.stop + by)


def _weights(
    core: slice, place: int, count: int, fade: int
) -> dict[int, tuple[slice, NDArray[np.float32]]]:
    """Say what a region and its neighbours along one axis weigh in its core; together 1.

    By the step to each: which part of the core it reaches, and ``(N,)`` weights there.
    """
    length = core.stop - core.start
    middle = np.arange(length, dtype=np.float32) + np.float32(0.5)
    before = np.clip((fade - middle) / (2 * fade), 0, 1) if place > 0 else 0 * middle
    after = (
        np.clip((fade - length + middle) / (2 * fade), 0, 1) if place < count - 1 else 0 * middle
    )
    found = {0: (slice(0, length), 1 - before - after)}
    if place > 0:
        reach = min(fade, length)
        found[-1] = slice(0, reach), before[:reach]
    if place < count - 1:
        reach = min(fade, length)
        found[1] = slice(length - reach, length), after[length - reach :]
    return found
