"""The classical way back into focus: Richardson-Lucy deconvolution with the theoretical PSF."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from refocus.configs import Optics
from refocus.optics.psf import psf

ITERATIONS = 10


def richardson_lucy(
    frame: NDArray[Any], optics: Optics, defocus_um: float, iterations: int = ITERATIONS
) -> NDArray[Any]:
    """Deconvolve a frame (Richardson 1972, Lucy 1974).

    Parameters
    ----------
    frame
        ``(H, W)``, ``uint8`` or ``uint16``.
    optics, defocus_um
        Say what the PSF is.
    iterations
        More sharpen more, and amplify noise.

    Returns
    -------
    ndarray
        Same shape and dtype; light beyond the edges is mirrored.
    """
    kernel = psf(optics, defocus_um)
    half = kernel.shape[0] // 2
    pad = min(2 * half, *frame.shape)
    # the dark level is no light: deconvolving it would ring at the edges
    dark = float(np.percentile(frame, 0.1))
    light = np.maximum(np.pad(frame.astype(np.float32), pad, mode="symmetric") - dark, 0) + 1.0
    shape = [fft.next_fast_len(n + half, real=True) for n in light.shape]
    placed = np.zeros(shape, np.float32)
    placed[: kernel.shape[0], : kernel.shape[1]] = kernel
    transfer = fft.rfft2(np.roll(placed, (-half, -half), (0, 1)))

    def blur(pixels: NDArray[np.float32], along: NDArray[Any]) -> NDArray[np.float32]:
        spread = fft.irfft2(fft.rfft2(pixels, shape) * along, shape)
        return np.asarray(spread[: light.shape[0], : light.shape[1]], dtype=np.float32)

    estimate = light.copy()
    for _ in range(iterations):
        ratio = light / np.maximum(blur(estimate, transfer), 1e-3)
        estimate *= np.maximum(blur(ratio, np.conj(transfer)), 0)
    inner = estimate[pad : pad + frame.shape[0], pad : pad + frame.shape[1]] + dark - 1.0
    restored: NDArray[Any] = np.clip(np.rint(inner), 0, np.iinfo(frame.dtype).max)
    return restored.astype(frame.dtype)
