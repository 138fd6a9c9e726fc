"""How a specimen looks at a distance from focus."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from refocus.configs import Optics
from refocus.optics.psf import psf


def defocus(image: NDArray[Any], optics: Optics, defocus_um: float) -> NDArray[np.float32]:
    """Blur an image in focus as the optics would at a distance from it.

    Parameters
    ----------
    image
        ``(H, W)``, any real dtype: the specimen in focus.
    optics
        The light path.
    defocus_um
        Distance of the stage from focus, µm.

    Returns
    -------
    ndarray
        ``(H, W)``, ``float32``, same units; light beyond the edges is mirrored.
    """
    if defocus_um == 0.0:
        return np.asarray(image, dtype=np.float32).copy()
    return convolve(image, psf(optics, defocus_um))


def convolve(image: NDArray[Any], kernel: NDArray[Any]) -> NDArray[np.float32]:
    """Convolve ``(H, W)`` with a centred odd ``(S, S)`` kernel, edges mirrored, by FFT."""
    half = kernel.shape[0] // 2
    padded = np.pad(np.asarray(image, dtype=np.float32), half, mode="symmetric")
    shape = [fft.next_fast_len(n, real=True) for n in padded.shape]
    spectrum = fft.rfft2(padded, shape) * fft.rfft2(kernel.astype(np.float32), shape)
    whole = fft.irfft2(spectrum, shape)
    height, width = np.shape(image)
    start = 2 * half
    return np.ascontiguousarray(
        whole[start : start + height, start : start + width], dtype=np.float32
    )
