"""Whether a frame shows anything: light that is spread otherwise than the camera's noise.

A closed shutter, a lamp that is off and a saturated sensor give a constant frame or noise, which
has no distance from focus. Noise of a camera is white: averaged over blocks of n × n pixels, its
variance falls to 1/n². What falls less is structure. An even slope, as of shading, is not.
"""

import numpy as np
from array_api_compat import array_namespace, device
from numpy.typing import NDArray

from refocus.engine.trust.evidence import Array, halved, noise_energy, over_maps
from refocus.engine.trust.judgement import TILE

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
    """Say whether a frame shows more than noise.

    Parameters
    ----------
    seen
        ``(H, W)``, the captured frame in network units, multiples of 32; a NumPy array, or a tensor
        on any device. Not resampled: the noise of neighbouring pixels must be independent.
    """
    height, width = (-(-n // TILE) for n in seen.shape)
    tiles = height, width
    noise, mean, square = over_maps((noise_energy(seen), seen, seen * seen), tiles)
    noise = np.maximum(noise, SPARSE * (square - mean**2))
    blocks = halved(seen)
    for side in (FINE, COARSE):
        while blocks.shape[0] * side > seen.shape[0]:
            blocks = halved(blocks)
        if _exceeds(side, _unevenness(blocks, tiles, TILE // side) * side**2, noise, seen.shape):
            return True
    return False


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


def _unevenness(blocks: Array, tiles: tuple[int, int], step: int) -> NDArray[np.float32]:
    """Give ``(h, w)``, the variance within each tile of ``step`` blocks that no slope explains."""
    xp = array_namespace(blocks)
    places = [np.arange(n, dtype=np.float32) % step for n in blocks.shape]
    down, along = (xp.asarray(place, device=device(blocks)) for place in places)
    parts = (blocks, blocks**2, blocks * down[:, None], blocks * along)
    mean, square, *products = over_maps(parts, tiles)
    variance = square - mean**2
    for place, product, whole in zip(
        (places[0][:, None], places[1][None]), products, ((tiles[0], 1), (1, tiles[1])), strict=True
    ):
        middle, middle2 = over_maps((place, place**2), whole)
        width = np.maximum(middle2 - middle**2, FLOOR)
        variance = variance - (product - middle * mean) ** 2 / width
    return np.asarray(np.maximum(variance, 0), np.float32)
