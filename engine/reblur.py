"""Blurring a refocused frame again, to see whether it explains what the camera saw.

At half size, where the camera's noise is halved and most of a defocused frame's content is left.
"""

from collections import OrderedDict

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from refocus.configs import Optics
from refocus.optics.psf import psf

DISTANCES_UM = tuple(float(d) for d in np.geomspace(1.0, 44.0, 20).round(2))
"""Distances that are tried; a frame is blurred for those nearest to what it claims."""
SPREAD = (0.2, 0.8)
"""Quantiles of a frame's own distances that are blurred for."""
KEPT = 48
LARGEST_HALF = 64
"""Widest half of a PSF that is used, pixels at half size."""


class Reblur:
    """Blurs refocused frames as an objective would, at half size.

    Parameters
    ----------
    optics
        Of the model: the light path its distances are stated for.
    """

    def __init__(self, optics: Optics) -> None:
        self._optics = optics.model_copy(update={"pixel_size_um": 2 * optics.pixel_size_um})
        self._sides = (1.0, -1.0) if optics.spherical_waves else (1.0,)
        self._spectra: OrderedDict[tuple[float, ...], NDArray[np.complex64]] = OrderedDict()

    def warm_up(self) -> None:
        """Compute the PSFs of all distances, so that no frame has to wait for one."""
        for distance in DISTANCES_UM:
            for side in self._sides:
                psf(self._optics, side * distance)

    def residual(
        self,
        captured: NDArray[np.float32],
        refocused: NDArray[np.float32],
        distance_um: NDArray[np.float32],
        weight: NDArray[np.float32],
    ) -> NDArray[np.float32]:
        """Give what the refocused frame, blurred again, does not explain of the captured one.

        Parameters
        ----------
        captured, refocused
            ``(H, W)`` at half size, network units.
        distance_um
            ``(h, w)``, the distance claimed per tile, µm.
        weight
            ``(h, w)``, how much there is to see in each tile.

        Returns
        -------
        ndarray
            ``(H, W)``: that of the side of focus and the distance that explain most.
        """
        margin = min(LARGEST_HALF, min(captured.shape) - 1)
        padded = np.pad(refocused, margin, mode="reflect")
        shape = tuple(fft.next_fast_len(n, real=True) for n in padded.shape)
        spectrum = fft.rfft2(padded, shape)
        window = tuple(slice(margin, margin + n) for n in captured.shape)
        best, least = captured - refocused, np.inf
        for distance in self._claimed(distance_um, weight):
            for side in self._sides:
                transfer = self._transfer(side * distance, shape)
                left = captured - fft.irfft2(spectrum * transfer, shape)[window]
                size = float(np.vdot(left, left))
                if size < least:
                    best, least = left, size
        return np.asarray(best, dtype=np.float32)

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

    def _transfer(self, distance_um: float, shape: tuple[int, ...]) -> NDArray[np.complex64]:
        key = (distance_um, *shape)
        if key not in self._spectra:
            kernel = psf(self._optics, distance_um)
            half = kernel.shape[0] // 2
            if half > LARGEST_HALF:
                cut = slice(half - LARGEST_HALF, half + LARGEST_HALF + 1)
                kernel, half = kernel[cut, cut], LARGEST_HALF
            placed = np.zeros(shape, np.float32)
            inside = tuple(slice(0, min(n, s)) for n, s in zip(kernel.shape, shape, strict=True))
            placed[inside] = kernel[inside]
            self._spectra[key] = fft.rfft2(np.roll(placed, (-half, -half), (0, 1)))
            while len(self._spectra) > KEPT:
                self._spectra.popitem(last=False)
        self._spectra.move_to_end(key)
        return self._spectra[key]
