"""Phase contrast: frames that no widefield PSF describes, for judging and for leaving alone."""

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from refocus.configs import Optics
from refocus.optics.specimens import beads, filaments, nuclei, texture

RING = 0.12
"""Half width of the phase ring, as a fraction of the aperture."""


def phase_contrast(
    shape: tuple[int, int], rng: np.random.Generator, optics: Optics, defocus_um: float
) -> NDArray[np.float32]:
    """Draw cells as a phase-contrast microscope shows them.

    A thin phase object under coherent light; the phase ring dims and retards what is not diffracted
    (Zernike, Physica 9:686, 1942), and the wave is carried on to ``defocus_um`` by the angular
    spectrum.

    Parameters
    ----------
    shape, rng
        Size of the field in pixels, and the source of randomness.
    optics
        Aperture, wavelength and pixel size.
    defocus_um
        Distance from focus, µm.

    Returns
    -------
    ndarray
        ``(H, W)``, ``float32`` light, about 1 where there is no cell at its brightest.
    """
    cells = nuclei(shape, rng, optics.pixel_size_um, radius_um=(6.0, 20.0))
    detail = filaments(shape, rng) * rng.uniform(0, 0.5) + beads(shape, rng) * rng.uniform(0, 0.3)
    thickness = cells * (1 + 0.3 * texture(shape, rng, rng.uniform(1, 4))) + detail
    wave = np.exp(1j * rng.uniform(0.3, 1.5) * thickness)
    frequency = np.hypot(
        *np.meshgrid(*(fft.fftfreq(n, optics.pixel_size_um) for n in shape), indexing="ij")
    )
    sine = frequency * optics.emission_um
    pupil = (sine < optics.na).astype(complex)
    pupil[sine < RING * optics.na] = -1j * rng.uniform(0.4, 0.8)
    cosine = np.sqrt(np.maximum(1 - sine**2, 0))
    pupil *= np.exp(2j * np.pi / optics.emission_um * defocus_um * cosine)
    light = np.abs(fft.ifft2(fft.fft2(wave) * pupil)) ** 2
    return np.asarray(light / np.percentile(light, 99.9), dtype=np.float32)
