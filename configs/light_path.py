"""What is known of the way that the light of a frame took."""

from dataclasses import dataclass


@dataclass(frozen=True)
class LightPath:
    """What is known of the way that the light of a frame took; 0.0 for what is not.

    Attributes
    ----------
    pixel_size_um
        Size of a pixel at the specimen, µm.
    na
        Numerical aperture of the objective.
    immersion_index
        Refractive index of the immersion medium.
    emission_um
        Emission wavelength, centre of the filter, µm.
    """

    pixel_size_um: float = 0.0
    na: float = 0.0
    immersion_index: float = 0.0
    emission_um: float = 0.0


UNKNOWN = LightPath()
"""Nothing is known of it."""
