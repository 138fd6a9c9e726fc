"""What a scientific camera makes of light: offset, gain, shot noise, read noise, integers."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field


class CameraModel(BaseModel):
    """A CCD or sCMOS camera, by the figures on its data sheet."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    offset: float = Field(default=100.0, ge=0.0)
    """Counts of a pixel in the dark."""
    electrons_per_count: float = Field(default=0.5, gt=0.0)
    """Photo-electrons that make one count."""
    read_noise_e: float = Field(default=1.6, ge=0.0)
    """Read noise, electrons, standard deviation."""
    bit_depth: int = Field(default=16, ge=8, le=16)
    """Significant bits of a pixel; 8 gives ``uint8``, more ``uint16``."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """``uint8`` or ``uint16``."""
        return np.dtype(np.uint8 if self.bit_depth == 8 else np.uint16)

    @property
    def ceiling(self) -> int:
        """Counts at which a pixel saturates."""
        return (1 << self.bit_depth) - 1

    def expose(
        self, electrons: NDArray[np.floating[Any]], rng: np.random.Generator
    ) -> NDArray[Any]:
        """Capture an image.

        Parameters
        ----------
        electrons
            ``(H, W)``, mean photo-electrons per pixel.
        rng
            Draws the shot noise (Poisson) and the read noise (Gaussian).

        Returns
        -------
        ndarray
            ``(H, W)``, ``uint8`` or ``uint16`` counts.
        """
        charge = rng.poisson(np.maximum(electrons, 0.0)) + rng.normal(
            0.0, self.read_noise_e, np.shape(electrons)
        )
        return self.digitise(charge)

    def digitise(self, electrons: NDArray[np.floating[Any]]) -> NDArray[Any]:
        """Turn charge into counts, ``(H, W)``, clipped and rounded, without adding noise."""
        counts = electrons / self.electrons_per_count + self.offset
        return np.asarray(np.clip(np.rint(counts), 0, self.ceiling), dtype=self.dtype)


def within_range(
    pixels: NDArray[Any], captured: NDArray[Any], bit_depth: int | None
) -> NDArray[Any]:
    """Clip what was made of a frame to the range of the camera that captured it.

    Parameters
    ----------
    pixels
        ``(H, W)``, made of ``captured``.
    captured
        As the camera gave it. Where it lies above the range itself, the bit depth is not its own,
        and nothing is clipped.
    bit_depth
        Significant bits of a pixel; None where unknown.
    """
    if not bit_depth or bit_depth >= 8 * pixels.dtype.itemsize:
        return pixels
    top = 2**bit_depth - 1
    beyond = pixels.max(initial=0) > top >= captured.max(initial=0)  # a tenth of clipping's time
    return np.minimum(pixels, pixels.dtype.type(top)) if beyond else pixels
