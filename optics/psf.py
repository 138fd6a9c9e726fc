"""The widefield point spread function at a distance from focus.

Scalar Gibson-Lanni model (Gibson & Lanni, J. Opt. Soc. Am. A 8:1601, 1991) for a cover slip as
designed: the pupil carries the phase of the stage's defocus, of the index mismatch down to the
emitter, and of a primary spherical aberration. Integrated over the emission band and the pixel.
"""

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import j0

from refocus.configs import Optics

SUBPIXELS = 3
"""Samples per pixel and axis when the intensity is integrated over a pixel."""
NODES = 32
"""Places on each part of the pupil's radius where the wave is asked for."""


def blur_radius_um(optics: Optics, defocus_um: float) -> float:
    """Radius of the geometric cone of light at this distance from focus, µm."""
    sine = min(optics.na / optics.immersion_index, 0.999)
    return abs(defocus_um) * sine / math.sqrt(1.0 - sine**2)


def depth_of_field_um(optics: Optics) -> float:
    """Depth of the specimen that is sharp at once: diffraction and the pixel's share, µm.

    λn/NA² + n·e/NA, with e the pixel at the specimen (Inoué & Spring, Video Microscopy, 1997).
    """
    n = optics.immersion_index
    return n * (optics.emission_um / optics.na**2 + optics.pixel_size_um / optics.na)


def psf(optics: Optics, defocus_um: float, size: int | None = None) -> NDArray[np.float32]:
    """Image of a point that is ``defocus_um`` from the plane in focus.

    Parameters
    ----------
    optics
        The light path.
    defocus_um
        Stage distance from focus, µm; the sign matters once there is spherical aberration.
    size
        Pixels along each side, odd. Default: as wide as the blur needs.

    Returns
    -------
    ndarray
        ``(size, size)``, ``float32``, sum 1, centred.

    Raises
    ------
    ValueError
        ``size`` is even.
    """
    if size is None:
        size = default_size(optics, defocus_um)
    if size % 2 == 0:
        raise ValueError(f"psf: size must be odd so that the centre is a pixel, got {size}")
    return _psf(optics, float(defocus_um), int(size)).copy()


def default_size(optics: Optics, defocus_um: float) -> int:
    """Odd side, in pixels, that holds the cone of light and the first rings beyond it."""
    rings_um = 4.0 * optics.emission_um / optics.na
    radius = 1.25 * blur_radius_um(optics, defocus_um) + rings_um
    return 2 * math.ceil(radius / optics.pixel_size_um) + 1


@lru_cache(maxsize=256)
def _psf(optics: Optics, defocus_um: float, size: int) -> NDArray[np.float32]:
    half = size // 2
    step = optics.pixel_size_um / SUBPIXELS
    # one quadrant of the sub-pixel grid is enough: the PSF is round
    axis = (np.arange(size * SUBPIXELS) - (size * SUBPIXELS - 1) / 2) * step
    radius = np.hypot(axis[:, None], axis[None, :])
    samples = np.arange(0.0, radius.max() + step, step / 2)
    profile = radial_profile(optics, defocus_um, samples)
    fine = np.interp(radius, samples, profile)
    image = fine.reshape(size, SUBPIXELS, size, SUBPIXELS).sum(axis=(1, 3))
    distance = np.hypot(*np.mgrid[-half : half + 1, -half : half + 1])
    image[distance > half + 0.5] = 0.0
    return np.asarray(image / image.sum(), dtype=np.float32)


def radial_profile(
    optics: Optics, defocus_um: float, radius_um: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Intensity at distances from the optical axis, in any unit.

    Parameters
    ----------
    optics, defocus_um
        As in :func:`psf`.
    radius_um
        ``(N,)``, µm in the specimen's plane.

    Returns
    -------
    ndarray
        ``(N,)``, averaged over the emission band.
    """
    spread = optics.bandwidth_um / 2
    wavelengths = [optics.emission_um + spread * s for s in (-0.77, 0.0, 0.77)]
    if spread == 0.0:
        wavelengths = wavelengths[1:2]
    profiles = [_profile(optics, defocus_um, radius_um, w) for w in wavelengths]
    return np.asarray(np.mean(profiles, axis=0))


def _profile(
    optics: Optics, defocus_um: float, radius_um: NDArray[np.float64], wavelength_um: float
) -> NDArray[np.float64]:
    k = 2 * np.pi / wavelength_um
    # enough nodes to follow the fastest phase across the pupil
    turns = k * optics.na * (radius_um.max() + blur_radius_um(optics, defocus_um))
    rho, weights = pupil_nodes(math.ceil(1 + turns / NODES))
    wave = np.exp(1j * k * path_difference_um(optics, defocus_um, rho))
    field = j0(k * optics.na * np.outer(radius_um, rho)) @ (wave * rho * weights)
    return np.asarray(np.abs(field) ** 2)


@lru_cache(maxsize=32)
def pupil_nodes(panels: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Give places and weights that integrate over the pupil's radius, ``(panels × NODES,)`` each.

    Gauss-Legendre in panels of one width: nodes of a single rule take the cube of their number to
    find, minutes where a blur is wide.
    """
    nodes, weights = np.polynomial.legendre.leggauss(NODES)
    starts = np.arange(panels)[:, None]
    return ((starts + (nodes + 1) / 2) / panels).ravel(), np.tile(weights / (2 * panels), panels)


def path_difference_um(
    optics: Optics, defocus_um: float, rho: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Optical path difference across the pupil, µm, ``rho`` from 0 (axis) to 1 (edge)."""
    sine = optics.na * rho

    def path(index: float) -> NDArray[np.float64]:
        return np.sqrt(np.maximum(index**2 - sine**2, 0.0)) - index

    opd = defocus_um * path(optics.immersion_index)
    if optics.depth_um:
        mismatch = path(optics.specimen_index) - path(optics.immersion_index) * (
            optics.immersion_index / optics.specimen_index
        )
        opd = opd + optics.depth_um * mismatch
    if optics.spherical_waves:
        opd = opd + optics.spherical_waves * optics.emission_um * (6 * rho**4 - 6 * rho**2)
    return np.asarray(opd)
