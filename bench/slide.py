"""A slide to measure with: written as scanners do, and its regions in memory, without a file."""

import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tifffile
from numpy.typing import NDArray

from refocus.engine.protocol import Engine
from refocus.optics.camera import CameraModel
from refocus.optics.specimens import nuclei
from refocus.recorded.process import open_data_set
from refocus.recorded.refocusing import Options, PendingResult, Refocusing, Told
from refocus.recorded.survey import survey

FIELD = 1024
TILE = 256
LEVELS = 4


def write_slide(path: Path, side: int) -> None:
    """Write a pyramid of tiles, which repeats one field of nuclei, without holding it."""
    rng = np.random.default_rng(0)
    light = nuclei((FIELD, FIELD), rng, count=120, radius_um=(4.0, 6.0)) * 3000 + 50
    field = CameraModel().expose(light, rng)
    with tifffile.TiffWriter(path, bigtiff=True) as writer:
        for level in range(LEVELS + 1):
            length = -(-side // 2**level)
            writer.write(
                _tiles(field[:: 2**level, :: 2**level], length),
                shape=(length, length),
                dtype=np.uint16,
                tile=(TILE, TILE),
                photometric="minisblack",
                metadata=None,
                subifds=None if level else LEVELS,
                subfiletype=int(level > 0),
            )


def _tiles(field: NDArray[np.generic], length: int) -> Iterator[NDArray[np.generic]]:
    for top in range(0, length, TILE):
        rows = np.arange(top, top + TILE) % len(field)
        for left in range(0, length, TILE):
            columns = np.arange(left, left + TILE) % len(field)
            yield field[np.ix_(rows, columns)]


class Regions:
    """The regions of a plane, read before they are needed: what is left to do is the engine's.

    Parameters
    ----------
    source
        A file of one plane.
    engine
        Refocuses and judges them.

    Attributes
    ----------
    pixels
        That the engine sees, with what is read around each region.
    """

    def __init__(self, source: Path, engine: Engine) -> None:
        (self._plane,) = open_data_set(source).planes
        self._refocusing = Refocusing(engine, Options())
        self._grid = self._refocusing.grid(self._plane)
        one = self._grid.is_one
        self._told = self._refocusing.believe(self._plane) if one else Told(survey(self._plane))
        self._read = [self._plane.read(*self._grid[n].read) for n in range(len(self._grid))]
        self.pixels = sum(read.size for read in self._read)

    def __len__(self) -> int:
        return len(self._read)

    def seconds(self) -> float:
        """Refocus all of them, and say how long that took."""
        begun = time.perf_counter()
        under_way: deque[PendingResult] = deque()
        for number, read in enumerate(self._read):
            while len(under_way) >= self._refocusing.overlap:
                under_way.popleft().wait()
            region, fade = self._grid[number], self._grid.fade
            under_way.append(self._refocusing.submit(self._plane, region, self._told, read, fade))
        while under_way:
            under_way.popleft().wait()
        return time.perf_counter() - begun
