"""What physics alone makes of a frame: inverse filters at the light paths that are thought likely.

A filter undoes the blur as far as the camera's noise allows (Wiener, 1949). The network is shown
several, and chooses, mends and denoises instead of guessing the blur (as MultiWienerNet: Yanny et
al., Optica 9:96, 2022). Frames go on beyond their edges as in a mirror, which the cosine transform
does exactly.
"""

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from refocus.configs.light_path import Blur
from refocus.optics.transfer import FREQUENCIES, HIGHEST, STEPS, transfer

CHANNELS = 4
"""Of a network that is shown filters: the frame, two filters at the likeliest light path, one at
the next."""
SPECTRUM = (1.0 / (FREQUENCIES**2 + 256.0**-2)) ** 1.25
SPECTRUM /= (1.0 / (0.1**2 + 256.0**-2)) ** 1.25
"""Power of what microscopes look at, by frequency, on average; 1 at 0.1 cycles per pixel."""
FLOORS, RISES = (5e-4, 1e-2, 3e-3), (2.0, 30.0, 8.0)
"""Noise over power that each filter assumes at least, and how it rises with that of the frame."""
NOISE_SHARE = 0.4
"""Noise over power at 0.1 cycles per pixel, per noise variance over variance of the frame."""
FINE = np.linspace(0.0, HIGHEST, 16 * STEPS)
"""Frequencies so close that the nearest will do: one look is cheaper than two and a mean."""
LARGEST, ABOVE_SEEN, BLOCK = 8.0, 2.0, 4
"""Network units that a filtered frame is cut at, or so many times the brightest block of the frame
if that is more, as where a few beads are all there is to see; a hot pixel fills no block."""


class Likely(NamedTuple):
    """The light paths that a frame is filtered for.

    Attributes
    ----------
    first
        The likeliest.
    second
        The next one that is another.
    """

    first: Blur
    second: Blur

    @property
    def chances(self) -> tuple[float, float]:
        """How likely each of them is; the second is none where it is the first."""
        alone = self.second._replace(chance=1.0) == self.first._replace(chance=1.0)
        return self.first.chance, 0.0 if alone else self.second.chance


def gains(
    in_focus: NDArray[Any], out_of_focus: NDArray[Any], noise: float, number: int
) -> NDArray[Any]:
    """Give filter ``number`` along a radius, ``(STEPS,)``, from two transfer functions.

    ``noise`` is the variance of the camera's noise over that of the frame.
    """
    assumed = (FLOORS[number] + RISES[number] * NOISE_SHARE * noise) / SPECTRUM
    return np.asarray(in_focus * out_of_focus / (out_of_focus**2 + assumed))


def noise_share(seen: NDArray[np.float32]) -> float:
    """Variance of the camera's noise over that of the frame ``(H, W)``.

    From differences that a smooth picture does not have (Immerkær, 1996), as medians, so that
    structure counts little.
    """
    rows = seen[:-1:2] - seen[1::2]
    odd = np.abs(rows[:, :-1:2] - rows[:, 1::2])[::2, ::2].ravel()
    noise = float(np.partition(odd, (odd.size - 1) // 2)[(odd.size - 1) // 2]) / (2 * 0.6745)
    variance = float(seen[::2, ::2].var())
    return min(noise**2 / max(variance, 1e-12), 10.0)


def tables(likely: Likely) -> NDArray[np.float32]:
    """Give the transfer functions that a frame is filtered with, ``(3, STEPS)``.

    In focus, at the likeliest light path, at the next.
    """
    blurs = likely.first._replace(radius=0.0), *likely
    return np.stack([_table(blur._replace(chance=1.0)) for blur in blurs])


@lru_cache(maxsize=256)
def _table(blur: Blur) -> NDArray[np.float32]:
    return transfer(blur)


def show(seen: NDArray[np.float32], likely: Likely) -> NDArray[np.float32]:
    """Put what filters make of a frame ``(H, W)``, in network units, beside it, ``(4, H, W)``.

    Its sides are multiples of :data:`BLOCK`.
    """
    in_focus, *out_of_focus = tables(likely)
    noise = noise_share(seen)
    where = _fine_places(*seen.shape)
    top = LARGEST
    if ABOVE_SEEN * float(seen.max()) > top:  # seldom, and blocks take longer
        height, width = seen.shape
        blocks = seen.reshape(height // BLOCK, BLOCK, width // BLOCK, BLOCK).mean((1, 3))
        top = max(top, ABOVE_SEEN * float(blocks.max()))
    spectrum = scipy.fft.dctn(seen, type=2)
    shown = np.empty((CHANNELS, *seen.shape), np.float32)
    shown[0] = seen
    for number, table in enumerate((out_of_focus[0], *out_of_focus)):
        gain = np.interp(FINE, FREQUENCIES, gains(in_focus, table, noise, number))
        filtered = gain.astype(np.float32)[where]
        filtered *= spectrum
        found = scipy.fft.idctn(filtered, type=2, overwrite_x=True)
        np.clip(found, -LARGEST, top, out=shown[number + 1])
    return shown


@lru_cache(maxsize=4)
def _fine_places(height: int, width: int) -> NDArray[np.int32]:
    """Give the nearest of :data:`FINE` to each frequency of a cosine transform."""
    fy, fx = (np.arange(n) / (2 * n) for n in (height, width))
    radius = np.hypot(fy[:, None], fx[None, :]) * ((FINE.size - 1) / FINE[-1])
    return np.asarray(np.rint(radius), np.int32)
