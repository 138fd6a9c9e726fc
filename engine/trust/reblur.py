"""Blurring a refocused frame again, to see whether it explains what the camera saw.

At half size, where the camera's noise is halved and most of a defocused frame's content is left.
"""

import threading
from collections import OrderedDict
from typing import Any

import numpy as np
import scipy.fft
from array_api_compat import array_namespace, device, is_numpy_array
from numpy.typing import NDArray

from refocus.configs import Optics
from refocus.optics.psf import default_size, psf

DISTANCES_UM = tuple(float(d) for d in np.geomspace(1.0, 44.0, 20).round(2))
"""Distances that are tried; a frame is blurred for those nearest to what it claims."""
SPREAD = (0.2, 0.8)
"""Quantiles of a frame's own distances that are blurred for."""
KEPT = 48
SMALL = 0.03
"""Transfer in focus below which nothing can be said."""
LARGEST_HALF = 64
"""Widest half of a PSF that is used, pixels at half size."""


class Reblur:
    """Blurs refocused frames as an objective would, at half size.

    Parameters
    ----------
    optics
        Of the model: the light path its distances are stated for.
    seen_in_focus
        What the network draws is the object as the optics show it in focus, not the object itself.
    """

    def __init__(self, optics: Optics, seen_in_focus: bool = False) -> None:
        self._seen_in_focus = seen_in_focus
        self._optics = optics.model_copy(update={"pixel_size_um": 2 * optics.pixel_size_um})
        widest = default_size(self._optics, DISTANCES_UM[-1]) // 2
        self._margin = min(LARGEST_HALF, widest)
        self._sides = (1.0, -1.0) if optics.spherical_waves else (1.0,)
        self._spectra: OrderedDict[tuple[Any, ...], Any] = OrderedDict()
        self._lock = threading.Lock()

    def warm_up(self) -> None:
        """Compute the PSFs of all distances, so that no frame has to wait for one."""
        for distance in DISTANCES_UM:
            for side in self._sides:
                psf(self._optics, side * distance)

    def residual(
        self,
        captured: Any,
        refocused: Any,
        distance_um: NDArray[np.float32],
        weight: NDArray[np.float32],
    ) -> Any:
        """Give what the refocused frame, blurred again, does not explain of the captured one.

        Parameters
        ----------
        captured, refocused
            ``(H, W)`` at half size, network units: NumPy arrays, or tensors on one device.
        distance_um
            ``(h, w)``, the distance claimed per tile, µm.
        weight
            ``(h, w)``, how much there is to see in each tile.

        Returns
        -------
        array
            ``(H, W)``, where the frames are: that of the side of focus and the distance that
            explain most.
        """
        fft = _fft(refocused)
        margin = min(self._margin, min(captured.shape) - 1)
        padded = _mirrored(_mirrored(refocused, margin, 0), margin, 1)
        shape = tuple(scipy.fft.next_fast_len(n, real=True) for n in padded.shape)
        spectrum = fft.rfftn(padded, s=shape, axes=(0, 1))
        window = tuple(slice(margin, margin + n) for n in captured.shape)
        best, least = captured - refocused, np.inf
        for distance in self._claimed(distance_um, weight):
            for side in self._sides:
                transfer = self._transfer(side * distance, shape, refocused)
                rows = fft.ifft(spectrum * transfer, axis=0)[window[0]]
                left = captured - fft.irfft(rows, n=shape[1], axis=1)[:, window[1]]
                size = float((left * left).sum())
                if size < least:
                    best, least = left, size
        return best

    def _claimed(
        self, distance_um: NDArray[np.float32], weight: NDArray[np.float32]
    ) -> list[float]:
        """Name the distances to try: those nearest to the spread of what the tiles claim."""
        order = np.argsort(distance_um, axis=None)
        total = np.cumsum(weight.ravel()[order])
        places = np.searchsorted(total, np.multiply(SPREAD, total[-1]))
        claimed = distance_um.ravel()[order][np.minimum(places, order.size - 1)]
        nearest = {int(np.argmin(np.abs(np.subtract(DISTANCES_UM, d)))) for d in claimed}
        return [DISTANCES_UM[i] for i in sorted(nearest)]

    def _transfer(self, distance_um: float, shape: tuple[int, ...], beside: Any) -> Any:
        """Give the transfer function at a distance, on the device of a frame."""
        place = device(beside)
        key = (distance_um, *shape, place)
        with self._lock:
            if key not in self._spectra:
                spectrum = self._spectrum(distance_um, shape)
                self._spectra[key] = array_namespace(beside).asarray(spectrum, device=place)
                while len(self._spectra) > KEPT:
                    self._spectra.popitem(last=False)
            self._spectra.move_to_end(key)
            return self._spectra[key]

    def _spectrum(self, distance_um: float, shape: tuple[int, ...]) -> NDArray[np.complex64]:
        spectrum = self._placed(distance_um, shape)
        if not self._seen_in_focus:
            return spectrum
        in_focus = self._placed(0.0, shape).real
        ratio: NDArray[np.complex64] = spectrum * in_focus / (in_focus**2 + SMALL**2)
        return ratio

    def _placed(self, distance_um: float, shape: tuple[int, ...]) -> NDArray[np.complex64]:
        kernel = psf(self._optics, distance_um)
        half = kernel.shape[0] // 2
        if half > LARGEST_HALF:
            cut = slice(half - LARGEST_HALF, half + LARGEST_HALF + 1)
            kernel, half = kernel[cut, cut], LARGEST_HALF
        placed = np.zeros(shape, np.float32)
        inside = tuple(slice(0, min(n, s)) for n, s in zip(kernel.shape, shape, strict=True))
        placed[inside] = kernel[inside]
        spectrum: NDArray[np.complex64] = scipy.fft.rfft2(np.roll(placed, (-half, -half), (0, 1)))
        return spectrum


def _fft(pixels: Any) -> Any:
    """Name the library that transforms them."""
    return scipy.fft if is_numpy_array(pixels) else array_namespace(pixels).fft


def _mirrored(pixels: Any, margin: int, axis: int) -> Any:
    """Continue an image beyond both ends of an axis, the pixels at the ends not repeated."""
    xp = array_namespace(pixels)
    ends = (slice(1, margin + 1), slice(-margin - 1, -1))
    before, after = (
        xp.flip(pixels[end] if axis == 0 else pixels[:, end], axis=axis) for end in ends
    )
    return xp.concat([before, pixels, after], axis=axis)
