"""Verdicts on refocused frames, and what is published of one.

===============  ==================================================  ===================
verdict          when                                                by default published
===============  ==================================================  ===================
``in-focus``     nearer to focus than the model can improve          captured
``refocused``    likely no worse than captured                       refocused
``beyond``       far from focus, and likely no better                captured
``unfamiliar``   likely worse, at a distance the model knows         captured
``blank``        nothing but noise: no specimen, no light         captured
``unrated``      the model or the engine gives no evidence           refocused
===============  ==================================================  ===================
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import product

import numpy as np
from numpy.typing import NDArray

from refocus.configs.trust import Verdict
from refocus.engine.protocol import Frame

TILE = 64
"""Side of a tile, pixels of the frame as a network sees it."""

BLOCK = 256
"""Side of what is mixed at a time, pixels: it stays in the processor's cache."""


@dataclass(frozen=True, eq=False)
class Judgement:
    """How far a refocused frame can be trusted.

    Attributes
    ----------
    verdict
        Of the frame.
    score
        Probability that the frame is no worse refocused than captured; None where unrated or blank,
        as all that follows.
    distance_um, sigma_um
        Distance from focus and its standard deviation, µm at the card's optics; None where unrated.
    consistency
        Residual after blurring again, in units of the camera's noise; None where unrated.
    domain
        Distance from the training set, 1 at its edge; None where unrated.
    share
        ``(h, w)``, from 0 to 1: how much of each tile's correction is taken.
    tile_px
        Side of a tile, pixels of the frame.
    tile_verdicts
        ``(h, w)`` of verdicts, or None where unrated.
    tile_distance_um
        ``(h, w)``, µm, or None where unrated.
    positive_side
        How likely the frame is to be on the positive side of focus; None where unrated. Which way
        the stage has to go from there is the same for all frames of one instrument.
    """

    verdict: Verdict
    score: float | None
    distance_um: float | None
    sigma_um: float | None
    consistency: float | None
    domain: float | None
    share: NDArray[np.float32]
    tile_px: float = TILE
    tile_verdicts: NDArray[np.str_] | None = None
    tile_distance_um: NDArray[np.float32] | None = None
    positive_side: float | None = None

    def scaled(self, factor: float) -> "Judgement":
        """State distances in a unit that is ``factor`` times smaller."""

        def times(value: float | None) -> float | None:
            return None if value is None else value * factor

        tiles = self.tile_distance_um
        return replace(
            self,
            distance_um=times(self.distance_um),
            sigma_um=times(self.sigma_um),
            tile_distance_um=None if tiles is None else tiles * np.float32(factor),
        )

    @property
    def taken(self) -> float:
        """How much of the correction is taken, on average over the tiles."""
        return float(self.share.sum()) / self.share.size  # mean() takes four times as long


BLANK = Judgement("blank", None, None, None, None, None, np.zeros((1, 1), np.float32))
"""Of a frame without structure: it has no distance from focus."""

UNRATED = Judgement("unrated", None, None, None, None, None, np.ones((1, 1), np.float32))
"""Of an engine or a model that gives no evidence."""

DISTRUSTED = Judgement("unfamiliar", None, None, None, None, None, np.zeros((1, 1), np.float32))
"""Of a frame that could not be judged, though its model can be."""


def blend(captured: Frame, refocused: Frame, judgement: Judgement, in_place: bool = False) -> Frame:
    """Take the correction where it is trusted, and the captured pixels elsewhere.

    Where a trusted tile meets one that is not, the correction fades within the trusted one.

    Parameters
    ----------
    captured, refocused
        ``(H, W)``, of one dtype.
    judgement
        Of this frame.
    in_place
        Mix within ``refocused``, which is the caller's own.

    Returns
    -------
    Frame
        One of the two where all tiles agree, or where it was mixed; else a new array.
    """
    share = judgement.share
    if not share.any():
        return captured
    if (share == 1).all():
        return refocused
    # a corner of tiles is trusted if all that meet there are
    corners = _of_four(np.minimum, np.pad(share, 1, mode="edge"))
    doubtful, wanted = _of_four(np.minimum, corners) < 1, _of_four(np.maximum, corners) > 0
    (down, rows), (along, columns) = (
        _between(number, corners.shape[axis], judgement.tile_px)
        for axis, number in enumerate(captured.shape)
    )
    mixed = refocused if in_place else refocused.copy()
    scratch = np.empty((3, 0), np.float32)
    for top, left, bottom, right in _boxes(doubtful, max(1, round(BLOCK / judgement.tile_px))):
        part = slice(down[top], down[bottom]), slice(along[left], along[right])
        before = captured[part]
        if not wanted[top:bottom, left:right].any():
            mixed[part] = before
            continue
        if scratch.shape[1] < before.size:
            scratch = np.empty((3, before.size), np.float32)
        weights, old, new = (one[: before.size].reshape(before.shape) for one in scratch)
        near, beside = slice(top, bottom + 1), slice(left, right + 1)
        trusted = rows[part[0], near] @ corners[near, beside]
        np.matmul(trusted, columns[part[1], beside].T, out=weights)
        old[:], new[:] = before, mixed[part]
        new -= old
        new *= weights
        new += old
        np.copyto(mixed[part], np.rint(new, out=new), casting="unsafe")
    return mixed


def _of_four(extreme: np.ufunc, values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Take the least, or the most, of each four that meet."""
    pairs = extreme(values[:-1], values[1:])
    four: NDArray[np.float32] = extreme(pairs[:, :-1], pairs[:, 1:])
    return four


def _boxes(tiles: NDArray[np.bool_], most: int) -> Iterator[tuple[int, int, int, int]]:
    """Give where boxes around tiles begin and end, by row and column; ``most`` along each side."""
    for top, left in product(*(range(0, number, most) for number in tiles.shape)):
        places = tiles[top : top + most, left : left + most].nonzero()
        if places[0].size:
            low, high = [int(axis.min()) for axis in places], [int(axis.max()) for axis in places]
            yield top + low[0], left + low[1], top + high[0] + 1, left + high[1] + 1


@lru_cache(maxsize=4)
def _between(
    pixels: int, corners: int, tile_px: float
) -> tuple[tuple[int, ...], NDArray[np.float32]]:
    """Give where each tile begins and the last one ends, and weights of corners for each pixel."""
    place = np.minimum((np.arange(pixels) + 0.5) / tile_px, corners - 1)
    begins = np.searchsorted(place, np.arange(corners - 1))
    exact = np.maximum(1 - np.abs(place[:, None] - np.arange(corners)), 0)
    weights = exact.astype(np.float32)
    weights.setflags(write=False)  # all callers share them
    return (*map(int, begins), pixels), weights
