"""Do two engines say the same? Frames that break exports, and the bound they are held to.

Raw counts go in and come out, so that normalisation, padding and rounding are compared too.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from refocus.engine.protocol import Engine, Frame, NotFiniteError

LARGEST, MEAN = 0.01, 0.0005
"""Bounds, as fractions of the range."""
SMALLEST_RANGE = 16
"""Counts; below, a difference of one count would be a large fraction of nothing."""


@dataclass(frozen=True)
class Difference:
    """How far two engines are apart on one frame.

    Attributes
    ----------
    frame
        Name of the frame.
    largest
        Largest difference as a fraction of the range, after one count of rounding.
    mean
        Mean difference as a fraction of the range.
    psnr_db
        Between the two, over the same range; infinite where they are equal.
    problem
        What makes the pair unacceptable, or an empty string.
    """

    frame: str
    largest: float
    mean: float
    psnr_db: float
    problem: str = ""


def adversarial_frames() -> dict[str, Frame]:
    """Draw the frames that exports break on; the same ones every time."""
    from refocus.optics.specimens import nuclei  # scikit-image: only where it is needed

    # few sizes: each is compiled anew by each engine
    rng = np.random.default_rng(4)
    cells = nuclei((160, 128), rng)
    wide = np.iinfo(np.uint16).max
    small = cells[:96]
    empty = rng.poisson(0.05, small.shape).astype(np.uint16)
    empty[40:44, 60:64] += 5
    hot = rng.poisson(100, small.shape).astype(np.uint16)
    hot[50, 31] = wide
    full = np.clip(cells * wide * 1.2, 0, wide)
    full[0, 0], full[-1, -1] = 0, wide
    return {
        "cells": rng.poisson(300 + 9000 * cells).astype(np.uint16),
        "cells, 8 bit": np.clip(rng.poisson(8 + 200 * small), 0, 255).astype(np.uint8),
        "odd size": rng.poisson(100 + 400 * cells[:131, :97]).astype(np.uint16),
        "smallest": rng.poisson(100 + 400 * cells[:32, :32]).astype(np.uint16),
        "full 16-bit range": full.astype(np.uint16),
        "noise over the full range": rng.integers(0, wide, small.shape, np.uint16, endpoint=True),
        "nearly empty": empty,
        "half saturated": np.where(small > 0.1, wide, 2000).astype(np.uint16),
        "all saturated": np.full(small.shape, wide, np.uint16),
        "one hot pixel": hot,
        "constant": np.full(small.shape, 1234, np.uint16),
        "black": np.zeros(small.shape, np.uint16),
    }


def compare(
    reference: Engine, candidate: Engine, frames: Mapping[str, Frame] | None = None
) -> list[Difference]:
    """Run two engines over frames.

    Parameters
    ----------
    reference, candidate
        Open engines.
    frames
        By name; default: :func:`adversarial_frames`.

    Returns
    -------
    list[Difference]
        One per frame, in order. NaN or infinity from either is a difference like any other.
    """
    chosen = adversarial_frames() if frames is None else frames
    return [_compare(name, frame, reference, candidate) for name, frame in chosen.items()]


def passed(differences: Iterable[Difference]) -> bool:
    """Tell whether all are within the bound."""
    return not any(d.problem for d in differences)


def _compare(name: str, frame: Frame, reference: Engine, candidate: Engine) -> Difference:
    try:
        wanted = reference.refocus(frame).astype(np.float64)
        given = candidate.refocus(frame).astype(np.float64)
    except NotFiniteError:
        return Difference(name, np.inf, np.inf, -np.inf, "NaN or infinity")
    return difference(name, wanted, given)


def difference(name: str, wanted: NDArray[np.float64], given: NDArray[np.float64]) -> Difference:
    """Measure the difference between two results in counts; the range is that of ``wanted``."""
    span = max(float(np.ptp(wanted)), SMALLEST_RANGE)
    apart = np.abs(wanted - given)
    # both round to integers: equal values may come to lie one count apart
    largest = max(float(apart.max()) - 1.0, 0.0) / span
    mean = float(apart.mean()) / span
    error = float((apart**2).mean())
    psnr_db = float(10 * np.log10(span**2 / error)) if error else np.inf
    problem = ""
    if not largest <= LARGEST:
        problem = f"largest difference over {LARGEST:.0%} of the range"
    elif not mean <= MEAN:
        problem = f"mean difference over {MEAN:.2%} of the range"
    return Difference(name, largest, mean, psnr_db, problem)
