"""Frames too large for one pass, cut into overlapping tiles."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from refocus.engine.prepare import STRIDE

Outputs = Callable[[NDArray[np.float32]], tuple[NDArray[np.float32], ...]]
"""``(H, W)`` or ``(C, H, W)`` network units in; ``(..., H/s, W/s)`` out, each ``s`` a divisor of
the stride."""

HALO = 192
"""Pixels of context around a tile: further than the widest blur a model undoes."""
ALIGNED = 64
"""Tiles are read from multiples of it: a tile that is judged."""
LARGEST = 2560 * 2560
"""Pixels of a frame that is still run whole on a CPU; its activations take about 2 GB."""
SIDE = 1280
"""Of a tile with its halo, pixels. So tiles and what is kept of them end where judged tiles do."""


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
                _span(start, core, length, side)
                for start, length in ((top, shape[0]), (left, shape[1]))
            ]
            yield Tile(*(tuple(s[i] for s in spans) for i in range(3)))  # type: ignore[arg-type]


def seen_with(start: int, halo: int, length: int, side: int) -> slice:
    """Give what a tile that begins at ``start`` is read with, of an axis of ``length`` pixels.

    A tile at an end is read as wide as the others, so that a network is compiled for few sizes.
    """
    last = -(-(length - side) // ALIGNED) * ALIGNED
    first = max(0, min(start - halo, last))
    return slice(first, min(length, first + side))


def _span(start: int, core: int, length: int, side: int) -> tuple[slice, slice, slice]:
    stop, seen = min(start + core, length), seen_with(start, HALO, length, side)
    return seen, slice(start - seen.start, stop - seen.start), slice(start, stop)


def tiled(network: Outputs, largest: int, side: int = SIDE) -> Outputs:
    """Run a network whole on frames of up to ``largest`` pixels or one tile, and by tiles above.

    Normalisation comes before and is of the whole frame, so tiles agree in brightness.
    """

    def run(pixels: NDArray[np.float32]) -> tuple[NDArray[np.float32], ...]:
        shape = pixels.shape[-2], pixels.shape[-1]
        if shape[0] * shape[1] <= largest or max(shape) <= side:
            return network(pixels)
        wholes: tuple[NDArray[np.float32], ...] = ()
        for tile in tiles(shape, side):
            seen = np.ascontiguousarray(pixels[..., *tile.read])
            parts = network(seen)
            scales = [seen.shape[-2] // part.shape[-2] for part in parts]
            if not wholes:
                wholes = tuple(
                    np.empty((*p.shape[:-2], *(n // s for n in shape)), np.float32)
                    for p, s in zip(parts, scales, strict=True)
                )
            for whole, part, scale in zip(wholes, parts, scales, strict=True):
                whole[..., *_scaled(tile.write, scale)] = part[..., *_scaled(tile.kept, scale)]
        return wholes

    return run


def _scaled(window: tuple[slice, slice], scale: int) -> tuple[slice, slice]:
    rows, columns = (slice(s.start // scale, s.stop // scale) for s in window)
    return rows, columns
