"""What the readers of a socket have subscribed to."""

from collections import Counter

import zmq

from refocus.stream.messages import FRAME, READERS
from refocus.stream.shared_memory import SHARED

TURN = 500
"""Subscriptions that are read in one turn."""


class Asked:
    """Counts subscriptions to what is sent, and to nothing else that strangers may name.

    Parameters
    ----------
    socket
        An XPUB socket that tells of every subscription.
    """

    def __init__(self, socket: "zmq.Socket[bytes]") -> None:
        self._socket = socket
        self._counts: Counter[bytes] = Counter()
        self._also = b""

    def __len__(self) -> int:
        """Count the topics that are kept in mind."""
        return len(self._counts)

    def expect(self, topic: bytes) -> None:
        """Count a further topic, instead of the last one given here."""
        if topic != self._also:
            self._counts.pop(self._also, None)
            self._also = topic

    def exactly(self, topic: bytes) -> int:
        """Count who asked for this, and not for all that begins alike."""
        return self._counts[topic]

    def count(self, topic: bytes) -> int:
        """Count who is sent a topic."""
        return sum(count for asked, count in self._counts.items() if topic.startswith(asked))

    def read(self) -> bool:
        """Read what readers have said, in bounded time; whether there is more."""
        for _ in range(TURN):
            if self._socket.closed or not int(self._socket.getsockopt(zmq.EVENTS)) & zmq.POLLIN:
                return False
            said = self._socket.recv(copy=False)
            kind, topic = said.bytes[:1], said.bytes[1:]
            known = READERS.startswith(topic) or FRAME.startswith(topic)
            if not known and topic not in (SHARED, self._also):
                continue
            if kind == b"\1":
                self._counts[topic] += 1
            elif kind == b"\0" and self._counts[topic] > 0 and not _was_said(said):
                self._counts[topic] -= 1
        return True


def _was_said(unsubscription: zmq.Frame) -> bool:
    """Whether a reader said so: then it may never have subscribed, and only its going counts."""
    try:
        return bool(unsubscription.get("Socket-Type"))
    except zmq.ZMQError:
        return False
