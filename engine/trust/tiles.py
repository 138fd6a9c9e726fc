"""Pictures, tile by tile, wherever they are.

By whatever array library holds them there (the array API standard, https://data-apis.org/array-api),
and without waiting for the device.
"""

from typing import Any

import numpy as np
from array_api_compat import array_namespace, to_device
from numpy.typing import NDArray

from refocus.engine.trust.judgement import TILE

Array = Any
"""``float32``: a NumPy array, or a tensor on the network's device."""

OCTAVES = 2, 4, 8, 16
"""Sides of the blocks between which and those twice as large energy is measured, pixels."""


def tiles_of(seen: Array) -> tuple[int, int]:
    """Count the tiles of a frame ``(H, W)``, down and along."""
    height, width = (-(-n // TILE) for n in seen.shape)
    return height, width


def over_maps(parts: tuple[Array, ...], tiles: tuple[int, int]) -> Array:
    """Average several ``(H', W')``, of whatever sizes, over tiles."""
    xp = array_namespace(*parts)
    rows = [_averaged(part, -2, tiles[0]) for part in parts]
    if len({row.shape for row in rows}) == 1:  # all at once: a call costs more than the sums
        return _averaged(xp.stack(rows), -1, tiles[1])
    return xp.stack([_averaged(row, -1, tiles[1]) for row in rows])


def over_tiles(part: Array, tiles: tuple[int, int]) -> Array:
    """Average ``(..., H', W')`` over tiles, the last ones being smaller, to ``(..., h, w)``."""
    for axis, number in zip((-2, -1), tiles, strict=True):
        part = _averaged(part, axis, number)
    return part


def _averaged(part: Array, axis: int, number: int) -> Array:
    """Average along one axis."""
    xp = array_namespace(part)
    step = _step(part.shape[axis], number)
    whole = part.shape[axis] // step

    def cut(begin: int, end: int | None) -> Array:
        return part[..., begin:end, :] if axis == -2 else part[..., begin:end]

    shape = list(part.shape)
    shape[axis:] = [whole, step, *shape[len(shape) + axis + 1 :]]
    means = xp.sum(xp.reshape(cut(0, whole * step), tuple(shape)), axis=axis) / step
    if whole == number:
        return means
    return xp.concat([means, xp.mean(cut(whole * step, None), axis=axis, keepdims=True)], axis=axis)


def _step(length: int, number: int) -> int:
    """Pixels of a part per tile; the part is a power of two smaller than the frame."""
    step = 1
    while -(-length // step) > number:
        step *= 2
    return step


def halved(pixels: Array) -> Array:
    """Average 2 × 2 pixels."""
    rows = pixels[::2] + pixels[1::2]
    return (rows[:, ::2] + rows[:, 1::2]) * 0.25


def noise_energy(pixels: Array) -> Array:
    """Estimate the variance of the camera's noise, at a quarter of the pixels.

    From differences that a smooth picture does not have (Immerkær, Comput. Vis. Image Underst.
    64:300, 1996), taken between the four pixels of a square, so each pixel is used once.
    """
    rows = pixels[::2] - pixels[1::2]
    odd = rows[:, ::2] - rows[:, 1::2]
    return odd * odd * 0.25


def detail(pixels: Array) -> Array:
    """Differences of neighbours along both axes, added."""
    xp = array_namespace(pixels)
    change = xp.zeros_like(pixels)
    change[:-1] += xp.abs(pixels[1:] - pixels[:-1])
    change[:, :-1] += xp.abs(pixels[:, 1:] - pixels[:, :-1])
    return change


def octaves(pixels: Array, tiles: tuple[int, int]) -> Array:
    """Give the energy at each of :data:`OCTAVES` of pixels at half size, ``(4, h, w)``.

    Between blocks of one size and of twice that: a Haar transform.
    """
    xp = array_namespace(pixels)
    blocks = [pixels]
    for _ in OCTAVES:
        blocks.append(halved(blocks[-1]))
    energies = xp.stack([over_tiles(block**2, tiles) for block in blocks])
    return at_least(energies[:-1] - energies[1:], 0.0)


def at_least(values: Array, least: float) -> Array:
    """Raise what is less; NaN stays. ``clip`` of some array libraries waits for the device."""
    xp = array_namespace(values)
    return xp.where(values < least, least, values)


def on_host(part: Array) -> NDArray[np.float32]:
    """Bring numbers from wherever they are to NumPy."""
    return np.asarray(to_device(part, "cpu"), dtype=np.float32)
