"""Measuring an instrument's optics from pairs in and out of focus.

A theoretical PSF at the nominal settings is not what an instrument has. Here the distance and the
spherical aberration are fitted so that the in-focus frame, blurred, gives the one out of focus.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import optimize

from refocus.configs import Optics
from refocus.optics.defocus import convolve
from refocus.optics.psf import psf


class MeasuredOptics(NamedTuple):
    """What fits a pair best.

    Attributes
    ----------
    defocus_um
        Distance from focus, µm.
    spherical_waves
        Spherical aberration, waves; its sign is relative to a positive ``defocus_um``.
    residual
        What is left over, as a fraction of the frame's standard deviation.
    unaberrated
        The same for the best fit without aberration.
    """

    defocus_um: float
    spherical_waves: float
    residual: float
    unaberrated: float


def measure_optics(
    in_focus: NDArray[Any], out_of_focus: NDArray[Any], optics: Optics, near_um: float
) -> MeasuredOptics:
    """Fit distance and spherical aberration to a pair.

    The aperture is not fitted: it trades against the distance, and the blur of nuclei cannot tell
    them apart.

    Parameters
    ----------
    in_focus, out_of_focus
        ``(H, W)`` of one field of view, any real dtype.
    optics
        Aperture, emission and sampling.
    near_um
        About how far from focus the second frame is, µm.
    """
    size = psf(optics, 1.6 * near_um).shape[0]
    # a margin is left out: light from beyond the frame is not known there
    inner = np.s_[size // 2 : -(size // 2), size // 2 : -(size // 2)]
    sharp = np.asarray(in_focus, dtype=np.float32)
    seen = np.asarray(out_of_focus, dtype=np.float64)[inner]

    def residual(settings: NDArray[np.float64], aberrated: bool) -> float:
        waves = float(np.clip(settings[1], -3, 3)) if aberrated else 0.0
        model = optics.model_copy(update={"spherical_waves": waves})
        blurred = convolve(sharp, psf(model, float(settings[0]), size))[inner].astype(np.float64)
        gain, offset = np.polyfit(blurred.ravel(), seen.ravel(), 1)
        return float((seen - gain * blurred - offset).std() / seen.std())

    def fit(aberrated: bool, start: float) -> Any:
        return optimize.minimize(
            residual,
            [near_um, start],
            args=(aberrated,),
            method="Nelder-Mead",
            options={"xatol": 0.02, "fatol": 1e-4, "maxfev": 60},
        )

    best = min((fit(True, start) for start in (-0.5, 0.5)), key=lambda found: float(found.fun))
    plain = fit(False, 0.0)
    return MeasuredOptics(float(best.x[0]), float(best.x[1]), float(best.fun), float(plain.fun))
