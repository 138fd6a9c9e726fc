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

from dataclasses import dataclass, replace
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
        return float(self.share.mean())


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
    padded = np.pad(share, 1, mode="edge")
    pairs = np.minimum(padded[:-1], padded[1:])
    corners = np.minimum(pairs[:, :-1], pairs[:, 1:])
    (down, rows), (along, columns) = (
        _between(number, corners.shape[axis], judgement.tile_px)
        for axis, number in enumerate(captured.shape)
    )
    mixed = refocused if in_place else refocused.copy()
    for top, left in product(*(range(0, number, BLOCK) for number in captured.shape)):
        part = slice(top, top + BLOCK), slice(left, left + BLOCK)
        near, beside = (
            slice(places[0], places[-1] + 2) for places in (down[part[0]], along[part[1]])
        )
        trusted = corners[near, beside]
        if not trusted.any():
            mixed[part] = captured[part]
        elif (trusted < 1).any():
            weights = rows[part[0], near] @ trusted @ columns[part[1], beside].T
            before = captured[part].astype(np.float32)
            weights *= np.subtract(mixed[part], before, dtype=np.float32)
            weights += before
            np.copyto(mixed[part], np.rint(weights, out=weights), casting="unsafe")
    return mixed


def _between(
    pixels: int, corners: int, tile_px: float
) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """Give the corner before each pixel, and ``(pixels, corners)`` weights between corners."""
    place = np.minimum((np.arange(pixels) + 0.5) / tile_px, corners - 1)
    distance = np.abs(place[:, None] - np.arange(corners))
    weights: NDArray[np.float32] = np.maximum(1 - distance, 0).astype(np.float32)
    return place.astype(np.intp), weights
