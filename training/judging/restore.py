"""The classical ways back into focus, which are told the light path: Richardson-Lucy and Wiener."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from refocus.configs import Optics
from refocus.optics.camera import CameraModel
from refocus.optics.psf import psf
from refocus.optics.transfer import at_places, blur_of, places, transfer

ITERATIONS = 10
TRIED = (5, 10, 20, 40, 80)
"""Iterations that the best is looked for among."""
SMALL = 0.02
"""Of the transfer function in focus: what it hides is not asked for."""


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
    (restored,) = _deconvolved(frame, optics, defocus_um, (iterations,))
    return restored


def best_richardson_lucy(
    frame: NDArray[Any],
    optics: Optics,
    defocus_um: float,
    quality: Callable[[NDArray[Any]], float],
) -> NDArray[Any]:
    """Deconvolve a frame at the best of :data:`TRIED` iterations; given up once more are worse.

    Nobody without the truth could stop there: it is what the method can give, not what it gives.

    Parameters
    ----------
    frame, optics, defocus_um
        As for :func:`richardson_lucy`.
    quality
        Says how good a result is, by the truth.
    """
    best, best_quality = frame, -np.inf
    for restored in _deconvolved(frame, optics, defocus_um, TRIED):
        found = quality(restored)
        if found < best_quality:
            break
        best, best_quality = restored, found
    return best


def _deconvolved(
    frame: NDArray[Any], optics: Optics, defocus_um: float, counts: Sequence[int]
) -> Iterator[NDArray[Any]]:
    """Give what so many iterations make of a frame, for rising numbers of them."""
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
    for done in range(1, counts[-1] + 1):
        ratio = light / np.maximum(blur(estimate, transfer), 1e-3)
        estimate *= np.maximum(blur(ratio, np.conj(transfer)), 0)
        if done in counts:
            inner = estimate[pad : pad + frame.shape[0], pad : pad + frame.shape[1]] + dark - 1.0
            yield np.clip(np.rint(inner), 0, np.iinfo(frame.dtype).max).astype(frame.dtype)


class Wiener:
    """The linear filter of least error for a kind of specimen, told the light path and the camera.

    Parameters
    ----------
    alike
        Other fields of that kind in focus, ``(H, W)`` counts without noise, all of one size: their
        mean power spectrum is what the filter expects. Edges are mirrored, which a discrete cosine
        transform does exactly.
    optics, defocus_um
        Say how frames are blurred.
    camera
        Says what counts are, and so how much noise.
    seen_in_focus
        Whether the object is wanted as the same optics show it in focus, or the object itself.
    """

    def __init__(
        self,
        alike: Sequence[NDArray[Any]],
        optics: Optics,
        defocus_um: float,
        camera: CameraModel,
        *,
        seen_in_focus: bool,
    ) -> None:
        self._camera = camera
        self._power = np.mean([fft.dctn(self._light(a), norm="ortho") ** 2 for a in alike], 0)
        blur = blur_of(optics, defocus_um)
        fy, fx = (np.arange(n) / (2 * n) for n in self._power.shape)
        where = places(fy[:, None], fx[None, :])
        self._transfer = at_places(transfer(blur), where)
        if seen_in_focus:
            focused = at_places(transfer(blur._replace(radius=0.0)), where)
            self._transfer = self._transfer * focused / (focused**2 + SMALL**2)

    def __call__(self, frame: NDArray[Any]) -> NDArray[Any]:
        """Restore a frame of counts; same shape and dtype."""
        light = self._light(frame)
        noise = float(light.mean()) + 2.0
        gain = self._transfer * self._power / (self._transfer**2 * self._power + noise)
        gain[0, 0] = 1.0
        found = fft.idctn(fft.dctn(light, norm="ortho") * gain, norm="ortho")
        return self._camera.digitise(found).astype(frame.dtype)

    def _light(self, counts: NDArray[Any]) -> NDArray[np.float64]:
        """Bring counts to electrons."""
        return (counts.astype(np.float64) - self._camera.offset) * self._camera.electrons_per_count
