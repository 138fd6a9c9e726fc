"""Frames too large for one pass, cut into overlapping tiles."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from refocus.engine.frames import STRIDE, Network

HALO = 128
"""Pixels of context around a tile: further than the widest blur a model undoes."""


class Tile(NamedTuple):
    """Where a tile is read, and which part of it is kept."""

    read: tuple[slice, slice]
    kept: tuple[slice, slice]
    write: tuple[slice, slice]


def tiles(shape: tuple[int, int], side: int) -> Iterator[Tile]:
    """Cover ``shape`` (multiples of the stride) with tiles of at most ``side``, halo included."""
    core = max(STRIDE, (side - 2 * HALO) // STRIDE * STRIDE)
    for top in range(0, shape[0], core):
        for left in range(0, shape[1], core):
            spans = [
                _span(start, core, length) for start, length in ((top, shape[0]), (left, shape[1]))
            ]
            yield Tile(*(tuple(s[i] for s in spans) for i in range(3)))  # type: ignore[arg-type]


def _span(start: int, core: int, length: int) -> tuple[slice, slice, slice]:
    stop = min(start + core, length)
    first, last = max(0, start - HALO), min(length, stop + HALO)
    return slice(first, last), slice(start - first, stop - first), slice(start, stop)


def tiled(network: Network, largest: int, side: int = 1024) -> Network:
    """Run a network whole on frames of up to ``largest`` pixels, and tile by tile above.

    Normalisation comes before and is of the whole frame, so tiles agree in brightness.
    """

    def run(pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        if pixels.size <= largest:
            return network(pixels)
        whole = np.empty_like(pixels)
        for tile in tiles((pixels.shape[0], pixels.shape[1]), side):
            whole[tile.write] = network(np.ascontiguousarray(pixels[tile.read]))[tile.kept]
        return whole

    return run
