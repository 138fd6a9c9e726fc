"""What stands in front of a virtual camera, and what is known of it.

A scene knows nothing of devices: it is told the moment of an exposure and fills the camera's
buffer. There are two: a specimen under a simulated objective, and a folder of recorded frames.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.generic]
"""Camera pixels, ``(H, W)``, ``uint8`` or ``uint16``."""

Roi = tuple[int, int, int, int]
"""Region of the sensor that is read out: ``(x, y, width, height)``, pixels."""

FIELDS_HELD = 4
"""How many fields of view a scene has ready at once."""


@dataclass(frozen=True)
class Moment:
    """The circumstances of one exposure.

    Attributes
    ----------
    capture
        Capture number within the run, from 0.
    z_um
        Position of the focus stage, µm.
    x_um
        Position of the specimen stage along x, µm.
    exposure_ms
        Exposure, ms.
    seconds
        Time since the microscope was switched on, s.
    roi
        Region of the sensor read out.
    """

    capture: int
    z_um: float
    x_um: float
    exposure_ms: float
    seconds: float
    roi: Roi


@dataclass(frozen=True, eq=False)
class Truth:
    """What is known of one captured frame.

    Attributes
    ----------
    frame
        Capture number within the run, from 0.
    z_um
        Distance of the stage from focus when the frame was exposed, drift included, µm; None
        where nobody knows it (a replay).
    in_focus
        ``(H, W)``, the same dtype and region as the frame: what it would have been in focus,
        without noise where it is simulated. None where there is no reference.
    source
        Name of the file it came from, in a replay; else ``""``.
    """

    frame: int
    z_um: float | None
    in_focus: Pixels | None
    source: str = ""


class Scene(Protocol):
    """What the virtual camera looks at."""

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of the whole sensor, pixels."""
        ...

    @property
    def dtype(self) -> np.dtype[Any]:
        """``uint8`` or ``uint16``."""
        ...

    def expect(self, first: Moment, z_um: Sequence[float], seconds: float) -> None:
        """Prepare for a burst of frames, so that none of them has to wait.

        Parameters
        ----------
        first
            The moment of its first frame.
        z_um
            Positions the focus stage will take, µm.
        seconds
            How long it will last, s; 0.0 where nobody knows.
        """
        ...

    def expose(self, moment: Moment, out: NDArray[Any]) -> str:
        """Fill ``out``, ``(height, width)`` of the moment's region, with what the camera sees.

        Returns
        -------
        str
            Name of the file the frame came from, or ``""``.
        """
        ...

    def truth(self, moment: Moment) -> Truth:
        """Tell what is known of the frame exposed at that moment."""
        ...
