"""The light path, as far as defocus depends on it."""

from pydantic import BaseModel, ConfigDict, Field


class Optics(BaseModel):
    """Objective, emission and sampling of one microscope.

    The defaults are those of BBBC006: 20×, 2×2 binning, Hoechst, a dry objective.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    na: float = Field(default=0.5, gt=0.0, lt=1.6)
    """Numerical aperture of the objective."""
    emission_um: float = Field(default=0.461, gt=0.2, lt=2.0)
    """Emission wavelength, centre of the filter, µm."""
    bandwidth_um: float = Field(default=0.05, ge=0.0, lt=0.3)
    """Width of the emission filter, µm."""
    pixel_size_um: float = Field(default=0.656, gt=0.01, lt=50.0)
    """Size of one camera pixel at the specimen, µm."""
    immersion_index: float = Field(default=1.0, ge=1.0, lt=1.7)
    """Refractive index of the immersion medium."""
    specimen_index: float = Field(default=1.34, ge=1.0, lt=1.7)
    """Refractive index of the specimen's medium."""
    depth_um: float = Field(default=0.0, ge=0.0, lt=500.0)
    """Depth of the light's source below the cover slip, µm."""
    spherical_waves: float = Field(default=0.0, ge=-3.0, le=3.0)
    """Primary spherical aberration left in the objective, wavelengths at the pupil's edge."""


BBBC006 = Optics(na=0.5, spherical_waves=-0.5)
"""The instrument that recorded BBBC006, as measured (docs/decisions/0003)."""
