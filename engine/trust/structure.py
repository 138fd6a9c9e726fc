"""Whether a frame shows anything: light that is spread otherwise than the camera's noise.

A closed shutter, a lamp that is off and a saturated sensor give a constant frame or noise, which
has no distance from focus. Noise of a camera is white: averaged over blocks of n × n pixels, its
variance falls to 1/n². What falls less is structure. An even slope, as of shading, is not.
"""

import numpy as np
from array_api_compat import array_namespace, device
from numpy.typing import NDArray

from refocus.engine.trust.judgement import TILE
from refocus.engine.trust.tiles import (
    Array,
    at_least,
    halved,
    noise_energy,
    on_host,
    over_maps,
    tiles_of,
)

FINE, COARSE = 2, 8
"""Sides of the blocks, pixels: one finds sharp detail, the other faint, blurred light."""
FRAME_EXCESS = {FINE: 0.10, COARSE: 0.25}
"""Structure, where the variance of blocks is so much over that of noise, on average over a frame.

Columns of an sCMOS that differ by a tenth of the read noise stay below; nuclei of 20 electrons,
far from focus, are above (``tests/engine/trust/test_structure.py``)."""
TILE_RATIO = {FINE: 6.0, COARSE: 8.0}
"""Or so many times that of noise in any one tile: one nucleus in a large frame. Hot pixels that
happen to lie in one block stay below."""
SIGMAS = 6.0
"""A small frame has to be over the noise by so many standard deviations of its own average."""
SPARSE = 0.25
"""The noise of a tile is at least this fraction of its variance: hot pixels that touch look smooth
to an estimate from neighbours."""
FLOOR = 1e-8
"""Variance that counts as none, network units: rounding of single precision."""


def shows_structure(seen: Array) -> bool:
    """Say whether a frame shows more than noise, and wait for it; see :func:`measure_structure`."""
    maps = measure_structure(seen, halved(seen), noise_energy(seen))
    return is_structure(on_host(maps), seen.shape)


def measure_structure(seen: Array, captured: Array, noise: Array) -> Array:
    """Measure how light is spread over a frame, without waiting for its device.

    Parameters
    ----------
    seen
        ``(H, W)``, the captured frame in network units, multiples of 32; a NumPy array, or a tensor
        on any device. Not resampled: the noise of neighbouring pixels must be independent.
    captured, noise
        The same :func:`~refocus.engine.trust.tiles.halved`, and its
        :func:`~refocus.engine.trust.tiles.noise_energy`.

    Returns
    -------
    array
        ``(5, h, w)`` per tile: noise, mean, mean square, and the variance of blocks.
    """
    xp, tiles = array_namespace(seen), tiles_of(seen)
    found = [over_maps((noise, seen, seen * seen), tiles)]
    blocks, side = captured, FINE
    for wanted in (FINE, COARSE):
        while side < wanted:
            blocks, side = halved(blocks), 2 * side
        found.append(_unevenness(blocks, tiles, TILE // side)[None] * side**2)
    return xp.concat(found)


def is_structure(maps: NDArray[np.float32], shape: tuple[int, ...]) -> bool:
    """Say whether a frame of this shape, that was measured so, shows more than noise."""
    noise, mean, square, *found = maps
    noise = np.maximum(noise, SPARSE * (square - mean**2))
    blocks = zip((FINE, COARSE), found, strict=True)
    return any(_exceeds(side, uneven, noise, shape) for side, uneven in blocks)


def _exceeds(
    side: int, found: NDArray[np.float32], noise: NDArray[np.float32], shape: tuple[int, ...]
) -> bool:
    """Compare the variance of blocks, brought to that of pixels, with the noise per tile."""
    spread = np.sqrt(2 * side**2 / (shape[0] * shape[1]))  # of the average over the frame
    if side == FINE:
        spread *= np.sqrt(2)  # the noise is known as badly as the variance
    over = 1 + max(FRAME_EXCESS[side], SIGMAS * float(spread))
    known = np.maximum(noise, FLOOR)
    return bool(found.mean() > over * known.mean() or (found > TILE_RATIO[side] * known).any())


def _unevenness(blocks: Array, tiles: tuple[int, int], step: int) -> Array:
    """Give ``(h, w)``, the variance within each tile of ``step`` blocks that no slope explains."""
    xp, like = array_namespace(blocks), {"dtype": blocks.dtype, "device": device(blocks)}
    down, along = (xp.arange(n, **like) % step for n in blocks.shape)
    parts = (blocks, blocks**2, blocks * down[:, None], blocks * along)
    mean, square, *products = over_maps(parts, tiles)
    variance = square - mean**2
    for place, product, whole in zip(
        (down[:, None], along[None]), products, ((tiles[0], 1), (1, tiles[1])), strict=True
    ):
        middle, middle2 = over_maps((place, place**2), whole)
        width = at_least(middle2 - middle**2, FLOOR)
        variance = variance - (product - middle * mean) ** 2 / width
    return at_least(variance, 0.0)
