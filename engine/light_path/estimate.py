"""Which light paths a frame may have come through, and how likely each is.

A small network looks at the frame's power spectrum and says how well every radius of blur and
spherical aberration on a grid explains it. So a frame that fits two light paths says so, and the
windows of a frame and the frames of a run add up, what was thought before being counted once.
"""

import base64
import hashlib
import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from refocus.configs.light_path import Blur
from refocus.engine.light_path.filters import Likely
from refocus.engine.light_path.rings import refined
from refocus.engine.light_path.spectrum import (
    BINS,
    SIDE,
    brightest,
    shows,
    spectra,
    together,
)
from refocus.optics.transfer import paraxial

RADII = np.concatenate([[0.0], 1.17 ** np.arange(26)])
"""Radii of blur that a narrow cone would have, pixels; the next one lies 17 % further."""
ABERRATIONS = np.linspace(-1.0, 1.0, 9)
"""Spherical aberration, waves, of the light path on the positive side of focus."""
SAMPLINGS = np.geomspace(0.1, 1.2, 14)
INPUTS = BINS + 3
OUTPUTS = RADII.size * ABERRATIONS.size + SAMPLINGS.size
_ABERRATED = 1.0 + 2.4 * np.exp(-8.0 * ABERRATIONS**2)
PRIOR = np.tile(np.log(_ABERRATED / _ABERRATED.sum() / RADII.size), (RADII.size, 1))
"""Logarithm of what is thought of a light path before a frame is seen: every radius of the grid is
as likely as another, and little aberration likelier than much."""
SHARE_OF_A_WINDOW = 0.7
"""Windows of a frame tell less than independent ones would."""
APART = 2
"""Steps of the grid, along either axis, from which a light path is another."""


class EstimatorWeights(BaseModel):
    """The network, as a model file carries it: layers of ``float16``, base64."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    shapes: list[tuple[int, int]]
    data: str

    @classmethod
    def pack(cls, layers: list[NDArray[Any]]) -> "EstimatorWeights":
        """Pack layers ``(inputs + 1, outputs)``, the last row being the bias."""
        raw = b"".join(layer.astype("<f2").tobytes() for layer in layers)
        return cls(
            shapes=[(s.shape[0], s.shape[1]) for s in layers], data=base64.b64encode(raw).decode()
        )

    def digest(self) -> str:
        """Give the checksum of shapes and weights."""
        return hashlib.sha256(f"{self.shapes}|{self.data}".encode()).hexdigest()

    def unpack(self) -> list[NDArray[np.float32]]:
        """Give the layers, ``float32``.

        Raises
        ------
        ValueError
            They are not such layers.
        """
        raw = np.frombuffer(base64.b64decode(self.data, validate=True), "<f2").astype(np.float32)
        sizes = [rows * columns for rows, columns in self.shapes]
        if sum(sizes) != raw.size or self.shapes[0][0] != INPUTS + 1:
            raise ValueError("the estimator's weights do not have the size that they state")
        if self.shapes[-1][1] != OUTPUTS or not np.isfinite(raw).all():
            raise ValueError("the estimator's weights are of another grid, or not finite")
        parts = np.split(raw, np.cumsum(sizes)[:-1])
        return [part.reshape(shape) for part, shape in zip(parts, self.shapes, strict=True)]


NOT_ASKED = np.zeros(0, np.float32)
NO_POWER = np.zeros((1, 2, 0))


class Posterior(NamedTuple):
    """What one frame says of its light path.

    Attributes
    ----------
    log
        ``(R, A)`` logarithm of the probability of each of :data:`RADII` and :data:`ABERRATIONS`.
    sampling, aperture
        As told, or estimated.
    samplings
        ``(S,)`` logarithm of the probability of each of :data:`SAMPLINGS`; empty where told.
    ring_power
        ``(N, 2, BINS)`` of the frames that say so, this one last: power, and of how many
        frequencies; empty where no optics are told.
    """

    log: NDArray[np.float32]
    sampling: float
    aperture: float
    samplings: NDArray[np.float32] = NOT_ASKED
    ring_power: NDArray[np.float64] = NO_POWER


class Estimator:
    """Estimates the light path of frames.

    Parameters
    ----------
    weights
        As the model file carries them.
    aperture
        Numerical aperture / refractive index that is taken where none is told.
    """

    def __init__(self, weights: EstimatorWeights, aperture: float) -> None:
        self._layers = weights.unpack()
        self._aperture = aperture

    def posterior(
        self, seen: NDArray[np.float32], sampling: float = 0.0, aperture: float = 0.0
    ) -> Posterior | None:
        """Look at a frame ``(H, W)``; None where it shows nothing that could have been blurred.

        What is not told of its optics is 0.
        """
        seen, side = np.ascontiguousarray(seen, np.float32), min(SIDE, *seen.shape)
        log, share = spectra(seen)
        if not shows(log, side).any():  # or little, elsewhere
            log, share = spectra(brightest(seen))
        log = log[shows(log, side)]
        if not len(log):
            return None
        share *= SHARE_OF_A_WINDOW
        if sampling:
            aperture = aperture or self._aperture
        said = self._run(described(log, sampling, aperture))
        samplings, ring_power = NOT_ASKED, NO_POWER
        if sampling:
            ring_power = together(log, side)[None]
        else:
            samplings = log_softmax(said[:, -SAMPLINGS.size :].sum(0) * share)
            sampling = mean_sampling(samplings)
        fits = said[:, : -SAMPLINGS.size].sum(0) * share
        joint = log_softmax(fits.reshape(PRIOR.shape) + PRIOR)
        return Posterior(joint, sampling, aperture or self._aperture, samplings, ring_power)

    def _run(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        for layer in self._layers[:-1]:
            x = np.maximum(x @ layer[:-1] + layer[-1], 0)
        last = self._layers[-1]
        return np.asarray(x @ last[:-1] + last[-1], np.float32)


def described(
    spectra: NDArray[np.float32], sampling: float, aperture: float
) -> NDArray[np.float32]:
    """Put what is told of the optics beside spectra ``(N, BINS)``."""
    told = (math.log(sampling), math.log(aperture), 1.0) if sampling else (0.0, 0.0, 0.0)
    beside = np.broadcast_to(np.array(told, np.float32), (len(spectra), 3))
    return np.concatenate([spectra * np.float32(0.3), beside], 1)


def log_softmax(x: NDArray[Any]) -> NDArray[np.float32]:
    """Logarithms of chances that add up to 1."""
    x = x - x.max()
    return np.asarray(x - np.log(np.exp(x).sum()), np.float32)


def mean_sampling(samplings: NDArray[np.float32]) -> float:
    """Give the sampling expected of logarithms of probabilities ``(S,)``."""
    return float(np.exp(np.exp(samplings) @ np.log(SAMPLINGS)))


def likely(belief: Posterior) -> Likely:
    """Name the likeliest light path, by its rings where they tell more, and the next other one."""
    chances = np.exp(belief.log)
    first = int(np.argmax(chances))
    row, column = divmod(first, ABERRATIONS.size)
    rows, columns = np.ogrid[: RADII.size, : ABERRATIONS.size]
    apart = (abs(rows - row) >= APART) | (abs(columns - column) >= APART)
    other = divmod(int(np.argmax(np.where(apart, chances, -1))), ABERRATIONS.size)
    named = _around(belief, chances, (row, column))
    return Likely(refined(named, belief.ring_power), _around(belief, chances, other))


def _around(belief: Posterior, chances: NDArray[np.float32], at: tuple[int, int]) -> Blur:
    """Average over a place of the grid and its neighbours."""
    rows = slice(max(0, at[0] - 1), at[0] + 2)
    columns = slice(max(0, at[1] - 1), at[1] + 2)
    weight = chances[rows, columns]
    chance = float(weight.sum())
    weight = weight / chance
    radius = float(weight.sum(1) @ RADII[rows])
    spherical = float(weight.sum(0) @ ABERRATIONS[columns])
    # rounded, so that the filters of a run are computed once
    return Blur(
        round(belief.sampling, 3),
        round(belief.aperture, 3),
        round(radius / paraxial(belief.aperture), 2),
        round(spherical, 2),
        round(chance, 3),
    )
