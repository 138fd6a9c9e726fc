"""How near two frames are."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from skimage.metrics import structural_similarity


def gtn(reference: NDArray[Any], *frames: NDArray[Any]) -> tuple[NDArray[np.float64], ...]:
    """Scale frames by the in-focus frame's 0.1 to 99.9 percentiles, and clip them to [0, 1].

    One scale for all of them, taken from the truth: an error of brightness is an error.

    Parameters
    ----------
    reference
        ``(H, W)``, the frame in focus.
    *frames
        ``(H, W)`` each: what is compared with it.

    Returns
    -------
    tuple of ndarray
        The reference first, then the frames, ``float64``.
    """
    low, high = np.percentile(reference, (0.1, 99.9))
    span = (high - low) or 1.0
    return tuple(
        np.clip((np.asarray(f, dtype=np.float64) - low) / span, 0.0, 1.0)
        for f in (reference, *frames)
    )


def psnr(reference: NDArray[Any], frame: NDArray[Any]) -> float:
    """Peak signal to noise ratio of frames in [0, 1], dB; infinite where they are equal."""
    error = np.mean(np.square(np.subtract(reference, frame, dtype=np.float64)))
    return float(-10.0 * np.log10(error)) if error else float("inf")


def ssim(reference: NDArray[Any], frame: NDArray[Any]) -> float:
    """Structural similarity of frames in [0, 1] (Wang et al. 2004), window of 7 × 7."""
    return float(structural_similarity(reference, frame, data_range=1.0))
