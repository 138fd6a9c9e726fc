"""How wide the blur of a run is, by the dark rings of its power spectra, for wide apertures.

What a specimen's power is by frequency is smooth; what the optics make of it is not. So the power
of several frames is explained by a smooth specimen of each, seen through one light path, and noise;
the radius that leaves least unexplained is taken. A network that has seen many spectra says
roughly where to look (:mod:`refocus.engine.light_path.estimate`).
"""

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from refocus.configs.light_path import Blur
from refocus.engine.light_path.spectrum import bin_edges
from refocus.optics.transfer import FREQUENCIES, transfer

WIDE = 0.8
"""Aperture from which on rings are asked. The estimator saw many narrower cones and is right within
some percent there; rings are not always, as a specimen's own power is not quite smooth."""
SMALLEST_PX = 3.0
"""Radius of blur below which there are no rings to speak of, pixels."""
STEP, STEPS = 1.03, 13
"""Radii that are tried lie so far apart, as a factor, and so many on either side."""
WAVES = 0.05
"""Aberrations that lie nearer than this are not told apart, so that tables are made once."""
SMOOTH = 4
"""Coefficients of the logarithm of a specimen's power, over that of the frequency."""
ROUNDS = 8
COUNTED = 200.0
"""So many frequencies of a ring count at most: a model is wrong by more than chance is."""
OUTLIER, OUTLIER_OF_A_FIT = 0.3, 0.5
"""From about here on misfits of the logarithm count less than their square, where light paths are
compared and, more leniently, where the specimen of one is fitted."""
SURE = 0.1
"""How well the radius is known before, as the standard deviation of its logarithm."""
WEIGHT = 10.0
"""Of a frame's mean misfit, beside what was known before."""
MOVED = 0.05
"""How much more is left unexplained of the last frame where others are of another distance: tenths
where that is a sixth off, and hundredths at most where it is the same."""
_FIRST = 2
"""Bins that are left out, where the taper of the windows shows."""


def refined(blur: Blur, ring_power: NDArray[np.float64]) -> Blur:
    """Find the radius of blur that explains the spectra of some frames best.

    Parameters
    ----------
    blur
        What is thought likely; its optics are known.
    ring_power
        ``(N, 2, BINS)`` of frames one after another: their power, and of how many frequencies. The
        last one is asked for; those before it help where they are of the same distance.

    Returns
    -------
    Blur
        The same, with another radius.
    """
    if blur.aperture < WIDE or abs(blur.radius) < SMALLEST_PX or not ring_power.size:
        return blur
    power, counts = ring_power[:, 0], ring_power[:, 1].min(0)
    if not (power[:, _FIRST:] > 0).all():  # black, or not finite
        return blur
    middle = round(np.log(abs(blur.radius)) / np.log(STEP))
    radii = STEP ** np.arange(middle - STEPS, middle + STEPS + 1.0)
    # the other side of focus lets as much through as this one with the opposite aberration
    waves = round(math.copysign(1.0, blur.radius) * blur.spherical / WAVES) * WAVES
    alike = blur._replace(spherical=waves, chance=1.0)
    seen = np.stack([_let_through(alike._replace(radius=float(r))) for r in radii])
    left = misfit(power[:, _FIRST:], counts[_FIRST:], seen[:, _FIRST:])
    if left[np.argmin(left.sum(1)), -1] > left[:, -1].min() + MOVED:  # it is elsewhere by now
        left = left[:, -1:]
    cost = WEIGHT * left.sum(1) + 0.5 * (np.log(radii / abs(blur.radius)) / SURE) ** 2
    best = int(np.clip(np.argmin(cost), 1, len(cost) - 2))
    before, least, after = cost[best - 1 : best + 2]
    bend = before - 2 * least + after
    aside = float(np.clip(0.5 * (before - after) / bend, -1, 1)) if bend > 0 else 0.0
    found = float(radii[best]) * STEP**aside
    return blur._replace(radius=round(math.copysign(found, blur.radius), 2))


@lru_cache(maxsize=512)
def _let_through(blur: Blur) -> NDArray[np.float64]:
    """Give the part of a specimen's power that comes through in each bin, ``(BINS,)``."""
    low, high = bin_edges()
    within = low + (high - low) * ((np.arange(4) + 0.5) / 4)[:, None]
    through = np.interp(within, FREQUENCIES, transfer(blur)) ** 2
    return np.asarray(through.mean(0) * np.sinc((low + high) / 2) ** 2)


def misfit(
    power: NDArray[np.float64], counts: NDArray[np.float64], seen: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Say what each light path leaves unexplained of each frame, ``(M, N)``.

    Cauchy's loss of the logarithms, fitted by reweighted least squares (Holland & Welsch, Commun.
    Stat. A 6:813, 1977).

    Parameters
    ----------
    power
        ``(N, K)`` of frames.
    counts
        ``(K,)`` frequencies of each bin.
    seen
        ``(M, K)``, the power that each light path lets through.
    """
    low, high = (edge[-power.shape[1] :] for edge in bin_edges())
    x = np.log((low + high) / 2)
    x = (x - x.mean()) / x.std()
    smooth = np.stack([x**n for n in range(SMOOTH)], -1)
    weight = np.minimum(counts, COUNTED)
    log_seen = np.log(seen + 1e-6)[:, None]
    noise = 0.9 * np.percentile(power, 3, axis=1)[:, None]
    above = np.maximum(power - noise, 0.05 * power)
    sure = (np.clip(1 - noise / power, 0, 1) ** 2 * weight)[:, :, None]
    normal = np.swapaxes(smooth * sure, -1, -2) @ smooth + 1e-6 * np.eye(SMOOTH)
    start = np.swapaxes(smooth * sure, -1, -2) @ (np.log(above) - log_seen)[..., None]
    shape = np.linalg.solve(np.broadcast_to(normal, (len(seen), *normal.shape)), start)[..., 0]
    log_noise = np.broadcast_to(np.log(noise), (len(seen), len(power), 1))
    log_power = np.log(power)
    ridge = 1e-3 * np.eye(SMOOTH + 1)
    for _ in range(ROUNDS):  # Gauss-Newton, misfits that are large counting less
        signal = np.exp(np.clip(shape @ smooth.T, -60, 60)) * seen[:, None]
        total = signal + np.exp(log_noise)
        left = log_power - np.log(total)
        slopes = np.concatenate(
            [smooth * (signal / total)[..., None], (np.exp(log_noise) / total)[..., None]], -1
        )
        weighed = slopes * (weight / (1 + (left / OUTLIER_OF_A_FIT) ** 2))[..., None]
        matrix = np.swapaxes(weighed, -1, -2) @ slopes + ridge
        step = np.linalg.solve(matrix, np.swapaxes(weighed, -1, -2) @ left[..., None])[..., 0]
        step = np.clip(step, -1, 1)
        shape, log_noise = shape + step[..., :SMOOTH], log_noise + step[..., SMOOTH:]
    signal = np.exp(np.clip(shape @ smooth.T, -60, 60)) * seen[:, None]
    left = log_power - np.log(signal + np.exp(log_noise))
    return np.asarray((weight * np.log1p((left / OUTLIER) ** 2)).sum(-1) / weight.sum())
