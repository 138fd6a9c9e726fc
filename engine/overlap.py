"""A run of frames through an engine, overlapped where the engine can."""

from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any, Protocol, runtime_checkable

from refocus.engine.protocol import Engine, Frame

IN_FLIGHT = 3
"""Frames under way on a GPU: one copied in, one computed, one copied out."""


@runtime_checkable
class Overlapping(Protocol):
    """An engine that lets frames overlap: copies of one, while another is computed."""

    @property
    def in_flight(self) -> int:
        """How many frames may be under way: 1 where they cannot overlap."""
        ...

    def start(self, frame: Frame) -> Any:
        """Send a frame to the device without waiting; gives a ticket."""
        ...

    def finish(self, ticket: Any) -> Frame:
        """Wait for a frame that was started."""
        ...


def refocus_stream(engine: Engine, frames: Iterable[Frame]) -> Iterator[Frame]:
    """Refocus frames in order.

    Parameters
    ----------
    engine
        Any; one that overlaps is given the next frames while the first is computed.
    frames
        Taken as room comes free.

    Yields
    ------
    Frame
        One per frame, in order.

    Raises
    ------
    EngineError
        As :meth:`~refocus.engine.protocol.Engine.refocus`, for the first frame that failed.
    """
    if not isinstance(engine, Overlapping) or engine.in_flight < 2:
        yield from map(engine.refocus, frames)
        return
    tickets: deque[Any] = deque()
    try:
        for frame in frames:
            if len(tickets) == engine.in_flight:
                yield engine.finish(tickets.popleft())
            tickets.append(engine.start(frame))
        while tickets:
            yield engine.finish(tickets.popleft())
    finally:
        while tickets:  # a ticket not finished would keep its slot
            engine.finish(tickets.popleft())
