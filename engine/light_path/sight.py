"""What a network is shown of a frame, and which light path that is for."""

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from pydantic import ValidationError

from refocus.configs import ModelCard, reason_of
from refocus.configs.light_path import Blur, LightPath
from refocus.engine.light_path.estimate import Estimator, EstimatorWeights, Posterior, likely
from refocus.engine.light_path.filters import Likely
from refocus.engine.model_file import ESTIMATOR_KEY
from refocus.engine.protocol import EngineError
from refocus.optics.transfer import paraxial, slope

EMISSION_UM = 0.53
"""Wavelength that is taken where none is told: green."""
OIL = 1.515
"""Index that is taken for an aperture that no dry objective has."""
TYPICAL = (8.0, 16.0)
"""Radii of blur, pixels, that a model without an estimator filters for."""


class Sight:
    """Shows frames to one network, at the light path that is believed.

    Parameters
    ----------
    card
        Of the model.
    estimator
        Of light paths; None to take a typical one.
    """

    def __init__(self, card: ModelCard, estimator: Estimator | None) -> None:
        self._card, self.estimator = card, estimator

    def look(self, pixels: NDArray[Any], light_path: LightPath) -> Posterior | None:
        """Ask a frame ``(H, W)``, in any units, which light path it came through.

        None where it shows nothing, or there is no estimator.
        """
        if self.estimator is None:
            return None
        sampling, aperture = told(light_path)
        if sampling and self._card.sampling and self._card.aperture:
            # beyond what it was trained for nothing is known, and tables would grow without bound
            sampling = float(np.clip(sampling, *self._card.sampling))
            aperture = float(np.clip(aperture, *self._card.aperture))
        return self.estimator.posterior(pixels, sampling, aperture)

    def likely(self, pixels: NDArray[Any], light_path: LightPath) -> Likely:
        """Name the light paths to show a frame at: those believed, or what it says itself."""
        believed = light_path.believed
        if believed:
            return Likely(believed[0], believed[min(1, len(believed) - 1)])
        posterior = self.look(pixels, light_path)
        if posterior is not None:
            return likely(posterior)
        optics = self._card.optics
        sampling = optics.pixel_size_um * optics.na / optics.emission_um
        aperture = optics.na / optics.immersion_index
        near, far = (Blur(sampling, aperture, r, optics.spherical_waves, 0.5) for r in TYPICAL)
        return Likely(near, far)

    def um_per_unit(self, light_path: LightPath) -> float:
        """Distance in µm of the user's own objective, per µm at the optics of the card.

        Where nothing is told of them the optics of the card are meant.
        """
        mine = self._card.optics
        pixels = light_path.pixel_size_um / mine.pixel_size_um if light_path.pixel_size_um else 1.0
        _, aperture = told(light_path)
        if not aperture:
            return pixels
        return pixels * slope(mine.na / mine.immersion_index) / slope(aperture)


def told(light_path: LightPath) -> tuple[float, float]:
    """Give sampling (pixel size × NA / wavelength) and aperture (NA / index); 0 where not known."""
    na = light_path.na
    if not na:
        return 0.0, 0.0
    index = light_path.immersion_index or (1.0 if na < 0.98 else OIL)
    sampling = light_path.pixel_size_um * na / (light_path.emission_um or EMISSION_UM)
    return sampling, min(na / index, 0.98)


def radius_per_um(light_path: LightPath) -> float:
    """Say how far a step of 1 µm leads along an estimator's radii; 0.0 where that is not known.

    The medium of the specimen is taken for that of the objective.
    """
    _, aperture = told(light_path)
    if not aperture or not light_path.pixel_size_um:
        return 0.0
    return slope(aperture) * paraxial(aperture) / light_path.pixel_size_um


def open_sight(model: onnx.ModelProto, card: ModelCard, where: str) -> Sight | None:
    """Open what shows frames to a model; None for one that sees the frame alone.

    Raises
    ------
    EngineError
        The model's estimator does not belong to its card, or is not one.
    """
    if card.inputs == 1:
        return None
    stored = [p.value for p in model.metadata_props if p.key == ESTIMATOR_KEY]
    if not stored:
        return Sight(card, None)
    try:
        weights = EstimatorWeights.model_validate_json(stored[0])
        if weights.digest() != card.estimator_sha256:
            raise ValueError("its checksum is not that of the card")
        optics = card.optics
        return Sight(card, Estimator(weights, optics.na / optics.immersion_index))
    except (ValidationError, ValueError) as error:
        raise EngineError(
            f"{where}: its estimator of light paths is damaged or was altered "
            f"({reason_of(error)}); fetch or export it again"
        ) from error
