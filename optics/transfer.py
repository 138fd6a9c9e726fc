"""The transfer function of a light path, in units of the pixel and the wavelength.

Whatever the objective, a frame is blurred by four numbers: how finely its pixels sample the light,
how wide the cone of light is, how far from focus it is, and the objective's spherical aberration. A
round pupil has a real, round transfer function, so a table along one radius holds all of it.
Scalar widefield model as in :mod:`refocus.optics.psf`.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import j0

from refocus.configs import Optics
from refocus.configs.light_path import STATED, Blur, LightPath
from refocus.optics.psf import NODES, pupil_nodes

STEPS = 256
HIGHEST = 0.75
"""A table reaches from 0 to this frequency, cycles per pixel: beyond the corner of the square."""
FREQUENCIES = np.linspace(0.0, HIGHEST, STEPS)
BAND = 0.03
"""Half the relative width of an emission band that is averaged over, where none is stated."""


def blur_of(optics: Optics, defocus_um: float) -> Blur:
    """Describe a light path ``defocus_um`` from focus."""
    aperture = min(optics.na / optics.immersion_index, 0.999)
    return Blur(
        optics.pixel_size_um * optics.na / optics.emission_um,
        aperture,
        defocus_um * slope(aperture) / optics.pixel_size_um,
        optics.spherical_waves,
    )


def light_path_of(optics: Optics, defocus_um: float | None = None) -> LightPath:
    """Tell all of a light path: the optics, and where it is given the distance from focus, µm."""
    believed = () if defocus_um is None else (blur_of(optics, defocus_um),)
    return LightPath(**{name: getattr(optics, name) for name in STATED}, believed=believed)


def slope(aperture: float) -> float:
    """Radius of the cone of light per distance from focus."""
    return aperture / math.sqrt(1.0 - aperture**2)


def waves_of_defocus(blur: Blur) -> float:
    """Path difference between the pupil's edge and its centre, wavelengths."""
    return 0.5 * blur.sampling * blur.radius * paraxial(blur.aperture)


def paraxial(aperture: float) -> float:
    """Radius of blur that a narrow cone would need for the same path difference, as a fraction.

    Wide cones are long before they are wide: 0.93 at an aperture of 0.5, 0.48 at 0.95.
    """
    depth = (1.0 - math.sqrt(1.0 - aperture**2)) / aperture
    return 2.0 * depth / slope(aperture)


def transfer(
    blur: Blur, band: float = BAND, frequencies: NDArray[np.float64] = FREQUENCIES
) -> NDArray[np.float32]:
    """Give the optical transfer function along a radius.

    Parameters
    ----------
    blur
        The light path.
    band
        Half the relative width of the emission band.
    frequencies
        ``(N,)``, cycles per pixel.

    Returns
    -------
    ndarray
        ``(N,)`` ``float32``, 1 at frequency 0; may be negative. The pixel's own response is not
        part of it.
    """
    reach = 1.2 * abs(blur.radius) + 4.0 / blur.sampling + 2.0
    radius = np.arange(0.0, reach, 1.0 / (10.0 * blur.sampling * (1 + band)))
    scales = (1 - 0.77 * band, 1.0, 1 + 0.77 * band) if band else (1.0,)
    light = np.mean([_intensity(blur, radius, s) for s in scales], axis=0)
    ring = light * radius
    found = j0(2 * np.pi * np.outer(frequencies, radius)) @ ring
    found[frequencies > 2 * blur.sampling * (1 + band)] = 0.0
    return np.asarray(found / ring.sum(), np.float32)


def _intensity(blur: Blur, radius: NDArray[np.float64], scale: float) -> NDArray[np.float64]:
    """Light at distances from the axis, pixels, at a wavelength that is ``scale`` times longer."""
    sampling = blur.sampling / scale
    nodes = 24 + math.ceil(2.6 * sampling * (radius[-1] + abs(blur.radius) / 2))
    rho, weights = pupil_nodes(math.ceil(nodes / NODES))
    cosines = 1.0 - np.sqrt(1.0 - (blur.aperture * rho) ** 2)
    edge = 1.0 - math.sqrt(1.0 - blur.aperture**2)
    waves = -waves_of_defocus(blur) * cosines / edge
    waves += blur.spherical * (6 * rho**4 - 6 * rho**2)
    wave = np.exp(2j * np.pi * waves / scale)
    field = j0(2 * np.pi * sampling * np.outer(radius, rho)) @ (wave * rho * weights)
    return np.asarray(np.abs(field) ** 2)


def sampled(blur: Blur, shape: tuple[int, int], band: float = BAND) -> NDArray[np.float32]:
    """Give the transfer function from the specimen to sampled pixels, their aliasing included.

    Parameters
    ----------
    blur, band
        As for :func:`transfer`.
    shape
        Of the frame, whose edges meet.

    Returns
    -------
    ndarray
        ``(H, W // 2 + 1)`` ``float32``, in the order of ``rfft2``.
    """
    cutoff = 2 * blur.sampling * (1 + band)
    frequencies = np.linspace(0.0, cutoff + 0.01, 64 + math.ceil(cutoff * STEPS / HIGHEST))
    table = transfer(blur, band, frequencies)
    fy, fx = np.fft.fftfreq(shape[0])[:, None], np.fft.rfftfreq(shape[1])[None, :]
    turns = range(-math.ceil(cutoff - 0.5), math.ceil(cutoff - 0.5) + 1) if cutoff > 0.5 else (0,)
    found = np.zeros((shape[0], shape[1] // 2 + 1))
    for y in turns:
        for x in turns:
            high = np.hypot(fy + y, fx + x)
            part = np.interp(high, frequencies, table, right=0.0)
            found += part * np.sinc(fy + y) * np.sinc(fx + x)
    return found.astype(np.float32)


def places(fy: NDArray[Any], fx: NDArray[Any]) -> NDArray[np.float32]:
    """Give where a radius of the frequencies ``(H, 1)`` and ``(1, W)`` lies in a table, ``(H, W)``.

    For :func:`at_places`.
    """
    found = np.hypot(fy, fx) * ((STEPS - 1) / HIGHEST)
    return np.asarray(np.minimum(found, STEPS - 1.001), np.float32)


def at_places(table: NDArray[np.float32], where: NDArray[np.float32]) -> NDArray[np.float32]:
    """Interpolate a table ``(STEPS,)`` at :func:`places`."""
    left = where.astype(np.int32)
    part = where - left
    return np.asarray(table[left] * (1 - part) + table[left + 1] * part, np.float32)
