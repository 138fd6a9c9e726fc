"""How a model does on other objectives: blind, after ten frames, told; and what physics allows.

Frames are simulated with the sampled point spread function of :mod:`refocus.optics.psf`, and the
truth is the object through the same optics in focus.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from refocus.configs import Optics
from refocus.optics.camera import CameraModel
from refocus.optics.metrics import gtn, psnr
from refocus.optics.psf import psf
from refocus.optics.specimens import GENERATORS

KINDS = ("filaments", "membranes", "tissue", "nuclei")
SIDE, MARGIN = 320, 96
"""Of the frames, and what is imaged beyond each edge and cut off, pixels."""
INNER = 32
"""Pixels along the edges of a frame that are not counted."""
PEAK_ELECTRONS, BACKGROUND_ELECTRONS = 3000.0, 100.0
RUN = 10
"""Frames of a run after which the light path has been pooled."""


class Case(NamedTuple):
    """An objective at a distance from focus."""

    name: str
    optics: Optics
    defocus_um: float

    def nearer(self, times: float) -> "Case":
        """Give the objective at so many times the distance."""
        if times == 1:
            return self
        distance = self.defocus_um * times
        return Case(f"{self.name.split(', ')[0]}, {distance:g} µm", self.optics, distance)


OBJECTIVES = (
    Case("10×/0.30, 12 µm", Optics(na=0.30, emission_um=0.52, pixel_size_um=0.65), 12.0),
    Case(
        "20×/0.75, 4 µm",
        Optics(na=0.75, emission_um=0.52, pixel_size_um=0.325, spherical_waves=0.1),
        4.0,
    ),
    Case("40×/0.95, 0.8 µm", Optics(na=0.95, emission_um=0.60, pixel_size_um=0.1625), 0.8),
    Case(
        "60×/1.40 oil, 0.8 µm",
        Optics(na=1.40, emission_um=0.52, pixel_size_um=0.108, immersion_index=1.515),
        0.8,
    ),
    Case("20×/0.50, +8 µm", Optics(spherical_waves=-0.5), 8.0),
    Case("20×/0.50, −8 µm", Optics(spherical_waves=-0.5), -8.0),
)


class Example(NamedTuple):
    """A frame of counts, ``(320, 320)`` ``uint16``, and the same in focus without noise."""

    kind: str
    frame: NDArray[np.uint16]
    truth: NDArray[np.uint16]


def examples(case: Case, number: int, seed: int = 9) -> Iterator[Example]:
    """Image specimens of several kinds in turn."""
    whole = SIDE + 2 * MARGIN
    inner = slice(MARGIN, MARGIN + SIDE)
    transfers = [_transfer(psf(case.optics, z), whole) for z in (case.defocus_um, 0.0)]
    camera = CameraModel()
    for place in range(number):
        kind = KINDS[place % len(KINDS)]
        rng = np.random.default_rng([seed, place])
        specimen = np.clip(GENERATORS[kind]((whole, whole), rng), 0, 4)
        spectrum = scipy.fft.rfft2(specimen)
        blurred, sharp = (
            np.clip(scipy.fft.irfft2(spectrum * h, s=(whole, whole))[inner, inner], 0, None)
            * PEAK_ELECTRONS
            + BACKGROUND_ELECTRONS
            for h in transfers
        )
        yield Example(kind, camera.expose(blurred, rng), camera.digitise(sharp))


def _transfer(kernel: NDArray[np.float32], side: int) -> NDArray[np.complex64]:
    half = kernel.shape[0] // 2
    if half > side // 2 - 1:
        cut = half - (side // 2 - 1)
        kernel = kernel[cut:-cut, cut:-cut]
        half = kernel.shape[0] // 2
    placed = np.zeros((side, side), np.float32)
    placed[: kernel.shape[0], : kernel.shape[1]] = kernel
    found: NDArray[np.complex64] = scipy.fft.rfft2(np.roll(placed, (-half, -half), (0, 1)))
    return found


def quality(example: Example, pixels: NDArray[np.generic]) -> float:
    """PSNR in GTN, dB, the edges left aside."""
    inner = slice(INNER, -INNER)
    return psnr(*gtn(example.truth[inner, inner], pixels[inner, inner]))
