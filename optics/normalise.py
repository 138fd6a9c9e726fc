"""The brightness a network sees: offset and scale of one frame.

Both are order statistics, so that ``a·x + b`` is normalised to the same picture as ``x`` and
photometry survives; neither follows a hot pixel.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

DARK, BRIGHT = 0.02, 0.999
"""Quantiles that become 0 and 1."""
ENOUGH = 1 << 18
"""Pixels that are enough to measure them; larger frames are sampled on a grid."""


class Brightness(NamedTuple):
    """Offset and scale of a frame, in its own counts."""

    offset: float
    scale: float

    def apply(self, frame: NDArray[Any]) -> NDArray[np.float32]:
        """Turn counts into network units, ``float32``."""
        return (np.asarray(frame, dtype=np.float32) - np.float32(self.offset)) * np.float32(
            1.0 / self.scale
        )

    def undo(self, pixels: NDArray[np.float32], dtype: np.dtype[Any]) -> NDArray[Any]:
        """Turn network units into counts of ``dtype``, rounded and clipped to its range."""
        counts = pixels * np.float32(self.scale)
        counts += np.float32(self.offset)
        np.rint(counts, out=counts)
        np.clip(counts, 0, np.iinfo(dtype).max, out=counts)
        return counts.astype(dtype)


def brightness(frame: NDArray[Any]) -> Brightness:
    """Measure the offset and scale of a frame.

    Parameters
    ----------
    frame
        ``(H, W)``, any real dtype.

    Returns
    -------
    Brightness
        In the frame's counts; a constant frame has scale 1.
    """
    step = grid_step(frame.size)
    return sampled_brightness(frame[::step, ::step].ravel())


def grid_step(pixels: int) -> int:
    """Give the step of the grid on which a frame of so many pixels is sampled."""
    return max(1, int(np.sqrt(pixels / ENOUGH)))


def sampled_brightness(sample: NDArray[Any]) -> Brightness:
    """Measure offset and scale from the pixels of the grid, ``(N,)``, in any order."""
    low, high = int(DARK * (sample.size - 1)), int(BRIGHT * (sample.size - 1))
    offset, top = _order_statistics(sample, low, high)
    if top <= offset:  # nearly empty: whatever there is lies above the quantile
        offset, top = float(sample.min()), float(sample.max())
    return Brightness(offset, top - offset if top > offset else 1.0)


def _order_statistics(sample: NDArray[Any], low: int, high: int) -> tuple[float, float]:
    """Give the values that would stand at these two places if the sample were sorted."""
    if sample.dtype in (np.uint8, np.uint16):  # counting is several times faster than sorting
        counted = np.cumsum(np.bincount(sample, minlength=2))
        first, last = np.searchsorted(counted, [low, high], side="right")
        return float(first), float(last)
    ordered = np.partition(sample, (low, high))
    return float(ordered[low]), float(ordered[high])
