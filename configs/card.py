"""What a model file says of itself."""

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from refocus.configs.errors import in_a_line
from refocus.configs.optics import Optics
from refocus.configs.trust import Thresholds


def _ordered(bounds: tuple[float, float]) -> tuple[float, float]:
    if bounds[0] > bounds[1]:
        raise ValueError(f"begins at {bounds[0]:g} and ends at {bounds[1]:g}")
    return bounds


SAME_PIXEL = 0.10
"""As a fraction, how far pixels may be from those of a model's own optics."""

Line = Annotated[str, AfterValidator(in_a_line)]
Range = Annotated[tuple[float, float], AfterValidator(_ordered)]


class ModelCard(BaseModel):
    """The card every model carries in its ONNX metadata.

    ``sha256`` is taken over the initialisers in order, and is checked whenever a model is opened;
    a checksum over the whole graph stands beside the card.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: Line
    version: Line
    architecture: Line
    optics: Optics
    defocus_um: Range
    """The range of distances from focus it was trained for, µm."""
    training_data: Line
    stains: tuple[Line, ...] = ()
    """What its training showed, a stain or a structure each; empty where nobody has said it."""
    licence: Line
    recipe: Line = ""
    """The command that reproduces it."""
    inputs: int = Field(default=1, ge=1)
    """Channels that the network is shown: the frame, or the frame and what filters make of it."""
    estimator_sha256: str = Field(default="", pattern=r"^([0-9a-f]{64})?$")
    """Of the estimator of light paths that the model carries."""
    sampling: Range | None = None
    """Pixel size × NA / wavelength that it was trained for; None for the optics stated."""
    aperture: Range | None = None
    """NA / refractive index that it was trained for; None for the optics stated."""
    trust: Thresholds | None = None
    """Where its verdicts begin; None for a model that was not calibrated."""
    sha256: str = Field(default="", pattern=r"^([0-9a-f]{64})?$")

    def takes_pixels_of(self, size_um: float) -> bool:
        """Whether pixels of this size, µm, are those of the optics stated."""
        return abs(size_um / self.optics.pixel_size_um - 1.0) <= SAME_PIXEL

    @property
    def seen_in_focus(self) -> bool:
        """Whether it draws the object as the same optics show it in focus, not the object itself.

        Models of one instrument were taught the object.
        """
        return self.sampling is not None
