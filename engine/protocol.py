"""The seam between the pipeline and whatever runs the network."""

import logging
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from refocus.configs import ModelCard, RefocusError

log = logging.getLogger("refocus.engine")

Frame = NDArray[np.generic]
"""Camera pixels, ``(H, W)``, ``uint8`` or ``uint16``."""


class EngineError(RefocusError):
    """An engine cannot be opened, or could not refocus a frame."""


class NotFiniteError(EngineError):
    """A network gave NaN or infinity."""

    def __init__(self) -> None:
        super().__init__(
            "the network gave NaN or infinity; the captured frame is kept as it is, and "
            "'refocus-export verify' tells whether the model is at fault"
        )


class DeviceError(EngineError):
    """An engine cannot do it here, and another may: no device, or it failed, or no library."""


@dataclass(frozen=True)
class EngineInfo:
    """Which engine runs which model.

    Attributes
    ----------
    name
        The engine: ``"openvino"``, ``"tensorrt"``, ``"torch"``, ``"fake"``...
    device
        What it runs on, in the vendor's words.
    precision
        Arithmetic of the network: ``"f32"``, ``"bf16"``, ``"fp16"``.
    card
        The model's card, or None where there is no model.
    """

    name: str
    device: str
    precision: str
    card: ModelCard | None

    def describe(self) -> dict[str, Any]:
        """Give the ``engine`` part of a report: name, model, sha256, precision, device."""
        return {
            "name": self.name,
            "model": self.card.name if self.card else "none",
            "sha256": self.card.sha256 if self.card else "",
            "precision": self.precision,
            "device": self.device,
        }


class Engine(Protocol):
    """Refocuses one frame at a time; callable from any thread, and releases the GIL."""

    @property
    def info(self) -> EngineInfo:
        """Which engine runs which model."""
        ...

    def warm_up(self, shape: tuple[int, int], dtype: np.dtype[Any]) -> None:
        """Compile and allocate for frames of this shape, so that frame 0 is as fast as the rest."""
        ...

    def refocus(self, frame: Frame) -> Frame:
        """Refocus a frame.

        Parameters
        ----------
        frame
            ``(H, W)``, ``uint8`` or ``uint16``, 32×32 or larger. It is never written to.

        Returns
        -------
        Frame
            A new array of the same shape and dtype.

        Raises
        ------
        EngineError
            The frame has another dtype or shape, or the device failed.
        """
        ...

    def close(self) -> None:
        """Release the device. May be called twice."""
        ...
