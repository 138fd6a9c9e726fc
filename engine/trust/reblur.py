"""Blurring a refocused frame again, to see whether it explains what the camera saw.

At half size, where the camera's noise is halved and most of a defocused frame's content is left.
By the light path that the network was shown the frame for; where it was shown none, by the model's
own optics at the distance that it claims.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
import scipy.fft
from array_api_compat import array_namespace, device, is_numpy_array
from numpy.typing import NDArray

from refocus.configs import Optics
from refocus.optics.psf import default_size, psf
from refocus.optics.transfer import at_places, places

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
        self._spectra: OrderedDict[tuple[Any, ...], NDArray[np.complex64]] = OrderedDict()
        self._tables: dict[Any, tuple[Any, Any, Any]] = {}
        self._places: dict[Any, tuple[Any, Any]] = {}
        self._lock = threading.Lock()

    def warm_up(self) -> None:
        """Compute the PSFs of all distances, so that no frame has to wait for one."""
        for distance in DISTANCES_UM:
            for side in self._sides:
                psf(self._optics, side * distance)

    def residual(self, captured: Any, refocused: Any, distance_um: Any, weight: Any) -> Any:
        """Give what the refocused frame, blurred again, does not explain of the captured one.

        Of tensors nothing is waited for: what depends on them is looked up where they are.

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

        def left(transfer: Any) -> Any:
            rows = fft.ifft(spectrum * transfer, axis=-2)[..., window[0], :]
            return captured - fft.irfft(rows, n=shape[1], axis=-1)[..., window[1]]

        claimed = _claimed(distance_um, weight)
        if is_numpy_array(captured):
            return self._least(left, captured - refocused, claimed, shape)
        xp = array_namespace(captured)
        found = left(self._looked_up(claimed, shape, captured))
        least = xp.argmin(xp.sum(found * found, axis=(1, 2)))
        return xp.take(found, xp.reshape(least, (1,)), axis=0)[0]

    def residual_through(self, captured: Any, refocused: Any, through: Any) -> Any:
        """Give what it does not explain through a light path that is known.

        Parameters
        ----------
        captured, refocused
            As for :meth:`residual`; edges go on as in a mirror.
        through
            ``(2, STEPS)``, transfer functions in focus and out of it, in cycles per pixel of the
            whole frame (:mod:`refocus.optics.transfer`), where the frames are.

        Returns
        -------
        array
            ``(H, W)``, where the frames are.
        """
        in_focus, out_of_focus = through[0], through[1]
        again = out_of_focus * in_focus / (in_focus**2 + SMALL**2)
        if is_numpy_array(refocused):
            gain = at_places(again, _half_places(*refocused.shape))
            return captured - scipy.fft.idctn(scipy.fft.dctn(refocused) * gain)
        xp = array_namespace(refocused)
        low, part = self._places_of(refocused)
        below, above = (xp.take(again, xp.reshape(at, (-1,)), axis=0) for at in (low, low + 1))
        gain = xp.reshape(below, part.shape) * (1 - part) + xp.reshape(above, part.shape) * part
        height, width = refocused.shape
        rows = xp.concat([refocused, xp.flip(refocused, axis=0)], axis=0)
        spectrum = xp.fft.rfftn(xp.concat([rows, xp.flip(rows, axis=1)], axis=1)) * gain
        return captured - xp.fft.irfftn(spectrum, s=(2 * height, 2 * width))[:height, :width]

    def _places_of(self, beside: Any) -> tuple[Any, Any]:
        """Say where each frequency of a frame and its mirror images lies in a table of them.

        What is given is kept: a CUDA graph reads it from where it is.
        """
        key = beside.shape, device(beside)
        if key not in self._places:
            xp, (height, width) = array_namespace(beside), beside.shape
            fy, fx = np.fft.fftfreq(2 * height), np.fft.rfftfreq(2 * width)
            where = places(fy[:, None] / 2, fx[None] / 2)  # a pixel here is two of the frame
            low = where.astype(np.int32)
            parts = low, (where - low).astype(np.float32)
            low, part = (xp.asarray(x, device=device(beside)) for x in parts)
            self._places[key] = low, part
        return self._places[key]

    def _least(
        self, left: Callable[[Any], Any], best: Any, claimed: Any, shape: tuple[int, ...]
    ) -> Any:
        """Try distances and sides one after the other, none of them twice."""
        least = np.inf
        nearest = {int(np.argmin(np.abs(np.subtract(DISTANCES_UM, d)))) for d in claimed}
        for place in sorted(nearest):
            for side in self._sides:
                found = left(self._transfer(side * DISTANCES_UM[place], shape))
                size = float((found * found).sum())
                if size < least:
                    best, least = found, size
        return best

    def _looked_up(self, claimed: Any, shape: tuple[int, ...], beside: Any) -> Any:
        """Give the transfer functions at the claimed distances, ``(2 * sides, *shape of one)``."""
        xp, fft = array_namespace(beside), _fft(beside)
        distances, kernels, in_focus = self._table(beside)
        nearest = xp.argmin(xp.abs(distances - claimed[:, None]), axis=1)
        chosen = xp.take(kernels, nearest, axis=0)
        side = chosen.shape[-1]
        spectra = fft.rfftn(
            _placed(xp.reshape(chosen, (-1, side, side)), shape), s=shape, axes=(-2, -1)
        )
        if not self._seen_in_focus:
            return spectra
        sharp = xp.real(fft.rfftn(_placed(in_focus, shape), s=shape, axes=(-2, -1)))
        return spectra * sharp / (sharp**2 + SMALL**2)

    def _table(self, beside: Any) -> tuple[Any, Any, Any]:
        """Give distances, their PSFs and the PSF in focus, brought to a device once."""
        place = device(beside)
        if place not in self._tables:
            xp = array_namespace(beside)
            kernels = [[self._kernel(s * d) for s in self._sides] for d in DISTANCES_UM]
            widest = max(one.shape[0] for of in kernels for one in of)
            same = [[_widened(one, widest) for one in of] for of in kernels]
            table = np.array(DISTANCES_UM, np.float32), np.array(same), self._kernel(0.0)
            distances, psfs, in_focus = (xp.asarray(part, device=place) for part in table)
            self._tables[place] = distances, psfs, in_focus
        return self._tables[place]

    def _transfer(self, distance_um: float, shape: tuple[int, ...]) -> NDArray[np.complex64]:
        """Give the transfer function at a distance, for NumPy."""
        key = distance_um, *shape
        with self._lock:
            if key not in self._spectra:
                self._spectra[key] = self._spectrum(distance_um, shape)
                while len(self._spectra) > KEPT:
                    self._spectra.popitem(last=False)
            self._spectra.move_to_end(key)
            return self._spectra[key]

    def _spectrum(self, distance_um: float, shape: tuple[int, ...]) -> NDArray[np.complex64]:
        spectra = scipy.fft.rfft2(_placed(self._kernel(distance_um), shape))
        if self._seen_in_focus:
            in_focus = scipy.fft.rfft2(_placed(self._kernel(0.0), shape)).real
            spectra *= in_focus / (in_focus**2 + SMALL**2)
        return np.asarray(spectra, np.complex64)

    def _kernel(self, distance_um: float) -> NDArray[np.float32]:
        """Give the PSF at a distance, no wider than is used."""
        kernel = psf(self._optics, distance_um)
        return np.asarray(_cut(kernel, LARGEST_HALF), np.float32)


@lru_cache(maxsize=4)
def _half_places(height: int, width: int) -> NDArray[np.float32]:
    """Say where each frequency of a cosine transform at half size lies in a table of them."""
    fy, fx = (np.arange(n) / (4 * n) for n in (height, width))
    return places(fy[:, None], fx[None])


def _claimed(distance_um: Any, weight: Any) -> Any:
    """Give the distances at :data:`SPREAD` of what the tiles claim."""
    xp = array_namespace(distance_um)
    claims = xp.reshape(distance_um, (-1,))
    order = xp.argsort(claims)
    total = xp.cumulative_sum(xp.take(xp.reshape(weight, (-1,)), order, axis=0))
    parts = xp.stack([total[-1] * part for part in SPREAD])
    places, last = xp.searchsorted(total, parts), order.shape[0] - 1
    places = xp.where(places > last, last, places)
    return xp.take(claims, xp.take(order, places, axis=0), axis=0)


def _cut(kernel: Any, half: int) -> Any:
    """Give the middle of kernels, at most so wide on either side of their centre."""
    over = max(0, kernel.shape[-1] // 2 - half)
    end = kernel.shape[-1] - over
    return kernel[..., over:end, over:end]


def _widened(kernel: NDArray[np.float32], side: int) -> NDArray[np.float32]:
    return np.pad(kernel, (side - kernel.shape[0]) // 2)


def _placed(kernel: Any, shape: tuple[int, ...]) -> Any:
    """Put kernels into frames of zeros, their centre at the first pixel."""
    xp = array_namespace(kernel)
    kernel = _cut(kernel, (min(shape) - 1) // 2)
    half = kernel.shape[-1] // 2
    for axis in (-2, -1):
        size = list(kernel.shape)
        size[axis] = shape[axis] - size[axis]
        zeros = xp.zeros(tuple(size), dtype=kernel.dtype, device=device(kernel))
        kernel = xp.concat([kernel, zeros], axis=axis)
    return xp.roll(kernel, (-half, -half), axis=(-2, -1))


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
