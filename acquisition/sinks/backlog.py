"""What ZeroMQ still holds of the frames it was given, in bytes.

Its high-water marks count messages, are chosen once for each connection, and so promise nothing
about memory where a camera's region is opened up.
"""

from collections import deque
from typing import Protocol


class Tracker(Protocol):
    """Tells when ZeroMQ has let go of a message (``zmq.MessageTracker``)."""

    @property
    def done(self) -> bool:
        """Whether it has."""
        ...


class Backlog:
    """The messages on their way to the slowest of all readers.

    Attributes
    ----------
    bytes
        What they hold; at most that since :meth:`settle`.
    """

    def __init__(self) -> None:
        self.bytes = 0
        self._held: deque[tuple[Tracker, int]] = deque()
        self._settled = 0

    def add(self, tracker: Tracker, size: int) -> None:
        """Note a message part of ``size`` bytes."""
        self._held.append((tracker, size))
        self.bytes += size
        while self._held and self._held[0][0].done:
            self.bytes -= self._held.popleft()[1]
        if len(self._held) > 2 * self._settled + 64:  # behind one that is stuck
            self.settle()

    def settle(self) -> int:
        """Count anew, and give how many parts are held."""
        self._held = deque(one for one in self._held if not one[0].done)
        self.bytes = sum(size for _, size in self._held)
        self._settled = len(self._held)
        return self._settled
