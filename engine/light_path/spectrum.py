"""The power spectrum of a frame, which shows how it was blurred.

Defocus puts dark rings into it, whose places tell how far and through which optics (as Lim &
Blostein, 1985, found for a disc). What is looked at adds a smooth slope.
"""

import math
from functools import lru_cache

import numpy as np
import scipy.fft
from numpy.typing import NDArray

SIDE = 256
"""Of the windows that spectra are taken of, pixels."""
BINS = 96
MOST = 3
"""Windows that are looked at, along a side of a frame."""
LEAST_POWER = 1e-12
SLOPE = 3
"""Turns across a window below which shading shows."""
TOLD_APART = 128
"""Side of the smallest windows in which a specimen looks otherwise than that, pixels."""
NOISE = slice(80, 96)
"""Bins that hold nothing but noise, or else much more lies below them."""
OVER_NOISE = {17: 0.25, 64: 0.1}
"""Structure, where the power up to a bin is so much over that of noise: blurred, or sharp."""
SIGMAS, TAPERED = 6.0, 2.25
"""And by so many standard deviations; a taper leaves one of so many frequencies its own."""
COARSE = 8
"""Side of the blocks that the brightest is searched among, pixels."""


def spectra(seen: NDArray[np.float32]) -> tuple[NDArray[np.float32], float]:
    """Describe windows spread over a frame by their spectra.

    Parameters
    ----------
    seen
        ``(H, W)``, any units.

    Returns
    -------
    log : ndarray
        ``(N, BINS)`` ``float32``: logarithm of the power along a radius, mean 0.
    share : float
        How much of a window is its own: less than 1 where windows overlap.
    """
    side = min(SIDE, *seen.shape)
    windows = _windows(seen, side)
    found = [describe_power(_power(window), side) for window in windows]
    return np.stack(found), min(1.0, seen.size / (len(windows) * side**2))


def shows(log: NDArray[np.float32], side: int) -> NDArray[np.bool_]:
    """Say which of the windows of :func:`spectra` show more than noise, whose power is flat.

    Of windows too small to tell a specimen from shading, all do.
    """
    if side < TOLD_APART:
        return np.ones(len(log), np.bool_)
    power, counts = np.exp(log), rings(side)[1]

    def mean(bins: slice) -> tuple[NDArray[np.float32], float]:
        return np.average(power[:, bins], axis=1, weights=counts[bins]), float(counts[bins].sum())

    noise, first = mean(NOISE)[0], SLOPE * SIDE // side
    found = np.zeros(len(log), np.bool_)
    for last, over in OVER_NOISE.items():
        seen, number = mean(slice(first, max(last, 2 * first)))
        found |= seen / noise - 1 > max(over, SIGMAS * math.sqrt(TAPERED / number))
    return found


def brightest(seen: NDArray[np.float32]) -> NDArray[np.float32]:
    """Cut the window around the brightest place of a frame ``(H, W)``."""
    side = min(SIDE, *seen.shape)
    height, width = (n // COARSE for n in seen.shape)
    blocks = seen[: height * COARSE, : width * COARSE].reshape(height, COARSE, width, COARSE)
    place = divmod(int(blocks.mean((1, 3)).argmax()), width)
    top, left = (
        min(max(0, at * COARSE - side // 2), n - side)
        for at, n in zip(place, seen.shape, strict=True)
    )
    return seen[top : top + side, left : left + side]


def _windows(seen: NDArray[np.float32], side: int) -> list[NDArray[np.float32]]:
    """Spread windows over a frame, up to half of each over the next."""
    starts = [np.linspace(0, n - side, _along(n, side)).astype(int) for n in seen.shape]
    return [seen[y : y + side, x : x + side] for y in starts[0] for x in starts[1]]


def _along(length: int, side: int) -> int:
    return min(MOST, 1 + math.ceil(2 * (length - side) / side))


def _power(window: NDArray[np.float32]) -> NDArray[np.float32]:
    side = window.shape[0]
    taper = np.hanning(side).astype(np.float32)
    spectrum = scipy.fft.rfft2((window - window.mean()) * taper[:, None] * taper[None, :])
    power: NDArray[np.float32] = spectrum.real**2 + spectrum.imag**2
    return power


def describe_power(power: NDArray[np.float32], side: int) -> NDArray[np.float32]:
    """Bring ``(side, side // 2 + 1)`` power to the logarithm along a radius, ``(BINS,)``."""
    ring, counts = rings(side)
    mean = np.bincount(ring.ravel(), power.ravel(), minlength=BINS + 1)[:BINS] / counts
    if side < SIDE:  # rings too fine for a small window hold nothing of their own
        filled = counts > 0.5
        mean = np.interp(np.arange(BINS), np.flatnonzero(filled), mean[filled])
    log = np.log(mean + LEAST_POWER * mean.sum() + 1e-30)
    return np.asarray(log - log.mean(), np.float32)


def together(log: NDArray[np.float32], side: int) -> NDArray[np.float64]:
    """Put :func:`spectra` of windows together: power, and of how many frequencies; ``(2, BINS)``.

    ``side`` is that of the windows, pixels.
    """
    counts = rings(side)[1] * (len(log) / 2)  # half of them are the other half again
    return np.stack([np.exp(log.astype(np.float64)).mean(0), counts])


def bin_edges() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Give where each bin of a radius begins and ends, cycles per pixel."""
    first = np.arange(BINS + 1)
    edges = np.where(first < 64, first, 64 + 2 * (first - 64)) / 256
    return edges[:-1], edges[1:]


@lru_cache(maxsize=4)
def rings(side: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Give the bin of every frequency, and how many there are in each.

    64 bins of 1/256 cycles per pixel, then 32 of 1/128; what lies beyond goes into one of its own.
    """
    fy, fx = np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None, :]
    radius = np.hypot(fy, fx) * 256
    ring = np.where(radius < 64, radius, 64 + (radius - 64) / 2).astype(np.int64)
    ring = np.minimum(ring, BINS)
    counts = np.bincount(ring.ravel(), minlength=BINS + 1)[:BINS].astype(np.float64)
    return ring, np.maximum(counts, 1e-9)
