"""Regions of a plane that is too large for one pass.

They lie on a grid that the size of the plane alone decides, and each is refocused with what lies
around it. So the result is the same in whatever order, by however many processes, they are done;
and with a network that looks no further than what lies around, it is that of one pass.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from refocus.engine.prepare import padded_shape
from refocus.engine.tiling import HALO, LARGEST, SIDE, seen_with
from refocus.engine.trust.judgement import TILE

FADE = 32
"""Pixels on each side of a border over which two regions that see different filters mix."""
WIDEST = 2048
"""Core of a region, pixels of the camera, whatever the network's pixels are."""

Window = tuple[slice, slice]


class Region(NamedTuple):
    """One of them.

    Attributes
    ----------
    place
        Row and column on the grid.
    core
        What it is refocused for, in the plane: rows and columns.
    read
        The same with what lies around.
    """

    place: tuple[int, int]
    core: Window
    read: Window

    def within(self, margin: int) -> Window:
        """Give the core and a margin, as far as the plane goes, counted from what is read."""
        rows, columns = (
            slice(
                max(core.start - margin, read.start) - read.start,
                min(core.stop + margin, read.stop) - read.start,
            )
            for core, read in zip(self.core, self.read, strict=True)
        )
        return rows, columns


@dataclass(frozen=True)
class Grid:
    """How a plane is cut into regions.

    Attributes
    ----------
    shape
        ``(H, W)`` of the plane.
    core, halo
        Sides of a region and of what is read around it, pixels.
    fade
        Pixels on each side of a border over which neighbours mix; 0 where they agree there.
    """

    shape: tuple[int, int]
    core: int
    halo: int
    fade: int

    @property
    def counts(self) -> tuple[int, int]:
        """Rows and columns of regions."""
        return -(-self.shape[0] // self.core), -(-self.shape[1] // self.core)

    @property
    def is_one(self) -> bool:
        """Whether the plane is refocused whole."""
        return len(self) == 1

    def __len__(self) -> int:
        return math.prod(self.counts)

    def __getitem__(self, number: int) -> Region:
        place = divmod(number, self.counts[1])
        spans = [
            (i * self.core, min((i + 1) * self.core, n))
            for i, n in zip(place, self.shape, strict=True)
        ]
        rows, columns = (slice(*span) for span in spans)
        side = self.core + 2 * self.halo
        around = [
            seen_with(start, self.halo, padded, side)
            for (start, _), padded in zip(spans, padded_shape(self.shape), strict=True)
        ]
        seen = [slice(s.start, min(s.stop, n)) for s, n in zip(around, self.shape, strict=True)]
        return Region(place, (rows, columns), (seen[0], seen[1]))

    def row(self, number: int) -> Iterator[int]:
        """Name the regions of a row of the grid."""
        columns = self.counts[1]
        return iter(range(number * columns, (number + 1) * columns))


def cut(shape: tuple[int, int], factor: float = 1.0, alone: bool = False) -> Grid:
    """Cut a plane into regions; one where it is small enough to be refocused whole.

    Parameters
    ----------
    shape
        ``(H, W)``.
    factor
        Pixels that the network is shown per pixel of the camera.
    alone
        Each region sees filters of its own.
    """
    if shape[0] * shape[1] <= LARGEST:
        return Grid(shape, max(shape), 0, 0)
    core = min(WIDEST, _tiles((SIDE - 2 * HALO) / factor))
    return Grid(shape, core, _tiles(HALO / factor), FADE if alone or factor != 1.0 else 0)


def _tiles(pixels: float) -> int:
    """Round up to whole judged tiles."""
    return TILE * max(1, math.ceil(pixels / TILE))
