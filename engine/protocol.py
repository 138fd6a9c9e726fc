"""The seam between whoever has frames and whatever runs the network.

A frame goes in without waiting, and one result comes back, which holds pixels and judgement:

```python
ticket = engine.submit(frame)  # as many at once as engine.overlap says
refocused = ticket()           # waits
```
"""

import logging
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from refocus.configs import ModelCard, RefocusError
from refocus.configs.light_path import UNKNOWN, LightPath

if TYPE_CHECKING:
    from refocus.engine.light_path.sight import Sight
    from refocus.engine.trust.judgement import Judgement

__all__ = [
    "UNKNOWN",
    "DeviceError",
    "Engine",
    "EngineError",
    "EngineInfo",
    "Frame",
    "LightPath",
    "NotFiniteError",
    "Refocused",
    "Ticket",
    "log",
    "refocus_all",
]

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

    def describe_fully(self) -> dict[str, Any]:
        """Give the same with the model's whole card, as a run's description has it."""
        card = self.card.model_dump(mode="json") if self.card else None
        return {**self.describe(), "card": card}


@dataclass(frozen=True, eq=False)
class Refocused:
    """A refocused frame, and how far it can be trusted.

    Attributes
    ----------
    pixels
        ``(H, W)``, shape and dtype of the captured frame: of an engine all of its result, whatever
        the judgement; of a :class:`~refocus.engine.refocuser.Refocuser` what is trusted of it.
    judgement
        Of the frame and its tiles.
    engine
        What refocused it.
    """

    pixels: Frame
    judgement: "Judgement"
    engine: EngineInfo


Ticket = Callable[[], Refocused]
"""Waits for a frame under way and gives its result, or raises what went wrong with it. To be called
once, in the order of the frames."""


class Engine(ABC):
    """Refocuses frames; callable from any thread, and releases the GIL while it computes.

    An engine has :attr:`info` and :meth:`submit`. One that neither overlaps frames nor judges them
    may have :meth:`refocus` instead: each is made of the other.
    """

    _sight: "Sight | None" = None

    @property
    @abstractmethod
    def info(self) -> EngineInfo:
        """Which engine runs which model."""

    def submit(self, frame: Frame, light_path: LightPath = UNKNOWN) -> Ticket:
        """Send a frame on its way without waiting for it.

        Parameters
        ----------
        frame
            ``(H, W)``, ``uint8`` or ``uint16``, 32×32 or larger. It is never written to, and must
            not change before the ticket has been called.
        light_path
            What is known of it.

        Returns
        -------
        Ticket
            Gives the result: new pixels of the same shape and dtype, the caller's own from then
            on, and their judgement.

        Raises
        ------
        EngineError
            From here or from the ticket: the frame has another dtype or shape, or the device
            failed.
        """
        from refocus.engine.trust.judgement import UNRATED

        return lambda: Refocused(self.refocus(frame), UNRATED, self.info)

    @property
    def overlap(self) -> int:
        """How many frames may be under way at once: 1 where they cannot overlap."""
        return 1

    @property
    def sight(self) -> "Sight | None":
        """What shows frames to the network; None where it sees the frame alone."""
        return self._sight

    def warm_up(self, shape: tuple[int, int], dtype: np.dtype[Any]) -> None:  # noqa: B027
        """Compile and allocate for frames of this shape, so that frame 0 is as fast as the rest."""

    def close(self) -> None:  # noqa: B027
        """Release the device. May be called twice."""

    def refocus(self, frame: Frame) -> Frame:
        """Refocus one frame, wait for it, and give its pixels alone."""
        return self.submit(frame)().pixels


def refocus_all(engine: Engine, frames: Iterable[Frame]) -> Iterator[Refocused]:
    """Refocus frames in order, as many under way as the engine can overlap.

    Parameters
    ----------
    engine
        Open.
    frames
        Taken as room comes free.

    Yields
    ------
    Refocused
        One per frame, in order.

    Raises
    ------
    EngineError
        The first frame that failed; those after it are waited for, and lost.
    """
    tickets: deque[Ticket] = deque()
    try:
        for frame in frames:
            if len(tickets) >= engine.overlap:
                yield tickets.popleft()()
            tickets.append(engine.submit(frame))
        while tickets:
            yield tickets.popleft()()
    finally:
        for ticket in tickets:  # one that is not called would keep its place on the device
            try:
                ticket()
            except EngineError as error:
                log.debug("a frame under way: %s", error)
