"""Read what a publisher sends: needs no microscope, no engine and no pymmcore.

```python
for frame in subscribe("tcp://127.0.0.1:5555"):
    print(frame.header.number, frame.header.channel, frame.pixels.mean(), frame.lost)
```
"""

import logging
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import zmq
from numpy.typing import NDArray

from refocus.configs import RefocusError
from refocus.configs.hosts import check_port
from refocus.stream.keys import unlock
from refocus.stream.link import Link, LinkState
from refocus.stream.messages import (
    END,
    FRAME,
    READERS,
    RUN,
    STATS,
    EndHeader,
    FrameHeader,
    Header,
    RunHeader,
    StatsHeader,
)
from refocus.stream.shared_memory import MAPPED, SHARED, SharedPixels, SharedReader

logger = logging.getLogger("refocus.stream")

Pixels = NDArray[np.generic]
"""Of a frame: ``(H, W)``, ``uint8`` or ``uint16``."""

HEARTBEAT_MS = 5000
"""How often the other end is asked for a sign of life; after six without one it is gone."""
LOOK_S = 0.5
"""How often the link is looked at while nothing comes."""
LOST_S, MUTE_S = 3.0, 30.0
"""A silence in a run, where something comes every second, after which its publisher is lost: one
whose link broke, and one that is still there, and perhaps only has too much to do."""


class PublisherLost(RefocusError):
    """A run was being heard, and its publisher fell silent before the end of it."""


@dataclass(frozen=True, eq=False)
class ReceivedFrame:
    """A frame as it arrived.

    Attributes
    ----------
    header
        All that is known about it.
    pixels
        ``(H, W)``, ``uint8`` or ``uint16``, refocused; read-only, in the message's own memory.
    raw
        The captured pixels, likewise, if the publisher sends them; else None.
    lost
        Messages that were lost between the frame before and this one.
    """

    header: FrameHeader
    pixels: Pixels
    raw: Pixels | None
    lost: int


SAID: dict[bytes, type[RunHeader | StatsHeader]] = {
    RUN: RunHeader,
    STATS: StatsHeader,
    END: EndHeader,
}

Message = ReceivedFrame | RunHeader | StatsHeader | EndHeader
"""What can come from a publisher."""


class Subscription:
    """A connection to a publisher; iterate over it for frames.

    Use it as a context manager, or iterate to the end: either lets go of the connection.

    Parameters
    ----------
    endpoint
        Where to connect; the publisher may start later.
    timeout
        Seconds of silence that are an error; None waits for ever. During a run something comes
        every second.
    runs
        After the end of how many runs to stop; None never does, even if a publisher is lost.
    high_water
        Messages that may wait on this side; beyond that they wait, then are lost, on the other.
    shared_memory
        Take the pixels from memory that the publisher shares: on the same host, and faster.
    keys
        The reader's folder of keys, where the publisher asks for them.

    Attributes
    ----------
    run
        Description of the run, once heard.
    stats
        The latest counts of it.
    end
        Its final counts, once it is over.
    received, lost
        Frames received, and lost, since the subscription began; frames sent before one joined
        are not lost.
    """

    def __init__(
        self,
        endpoint: str,
        timeout: float | None = None,
        runs: int | None = 1,
        high_water: int = 64,
        *,
        shared_memory: bool = False,
        keys: Path | None = None,
    ) -> None:
        self.endpoint = endpoint
        self.run: RunHeader | None = None
        self.stats: StatsHeader | None = None
        self.end: EndHeader | None = None
        self.received = 0
        self.lost = 0
        self._timeout = timeout
        self._keys = keys
        self._runs = runs
        self._run_id = ""
        self._expected = 0
        self._shared = SharedReader() if shared_memory else None
        self._mapped = ""
        self._context = zmq.Context()
        self._socket: zmq.Socket[bytes] = self._context.socket(zmq.SUB)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.RCVHWM, high_water)
        # a link that died without a word (cable, Wi-Fi) is noticed, and made again
        self._socket.setsockopt(zmq.HEARTBEAT_IVL, HEARTBEAT_MS)
        self._socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, 6 * HEARTBEAT_MS)
        self._link = Link(self._socket, endpoint)
        self._told_refused = False
        try:
            if keys is not None:
                unlock(self._socket, keys)
            check_port(endpoint)
            self._socket.connect(endpoint)
        except RefocusError:
            self.close()
            raise
        except (zmq.ZMQError, ValueError) as error:
            self.close()
            raise RefocusError(
                f"endpoint {endpoint}: not one to connect to ({error}); "
                "write for example tcp://127.0.0.1:5555"
            ) from None
        pixels = SHARED if shared_memory else FRAME
        for topic in (RUN, pixels, STATS, END, READERS):  # the last one is what gets us counted
            self._socket.setsockopt(zmq.SUBSCRIBE, topic)

    def __iter__(self) -> Iterator[ReceivedFrame]:
        """Yield the frames, until the end of the run.

        Raises
        ------
        PublisherLost
            Nothing came for three seconds in the middle of a run, and the link is broken, or for
            thirty, or ``timeout``: it was killed, hangs, or cannot be reached any more. With
            ``runs=None`` that is only logged, and the next run waited for.
        RefocusError
            Nothing came for ``timeout`` seconds, or something that is not schema ``refocus/1``.
        """
        return (message for message in self.messages() if isinstance(message, ReceivedFrame))

    def messages(self) -> Iterator[Message]:
        """Yield everything that comes, until the end of the run; raises as iterating does."""
        ended = 0
        try:
            while self._runs is None or ended < self._runs:
                message = self._next()
                yield message
                ended += isinstance(message, EndHeader)
        finally:
            self.close()

    def _next(self) -> Message:
        """Wait for a message as long as one waits for it, here or in the middle of a run."""
        begun = time.monotonic()
        most = math.inf if self._timeout is None else self._timeout
        if self._run_id and self.end is None and most > LOST_S:
            wait = LOST_S
            while time.monotonic() - begun < min(MUTE_S, most):
                if (message := self.receive(wait)) is not None:
                    return message
                wait = LOOK_S
                if self.link != "connected":
                    break
            self._lost(time.monotonic() - begun)
        left = None if self._timeout is None else begun + most - time.monotonic()
        if (message := self.receive(left)) is not None:
            return message
        if self.link == "refused":
            raise RefocusError(self._refusal())
        raise RefocusError(
            f"endpoint {self.endpoint}: nothing heard for {self._timeout:g} s; "
            "see that an acquisition is running and publishes there"
        )

    def _lost(self, silence: float) -> None:
        text = (
            f"endpoint {self.endpoint}: nothing heard for {silence:.2g} s in the middle of a run: "
            "its publisher was killed or hangs, or cannot be reached any more"
        )
        if self._runs is not None:
            raise PublisherLost(f"{text}; start it again, or see to the network")
        logger.warning("%s; waiting for the next run", text)

    def _refusal(self) -> str:
        whom = f"the keys in {self._keys}" if self._keys else "a reader without keys"
        return (
            f"endpoint {self.endpoint}: who answers there refuses {whom}; give the folder that "
            "'refocus-live keys' made for this reader (--keys), or none where there are no keys; "
            "unless it is no publisher, or a tunnel with nothing behind it"
        )

    @property
    def link(self) -> LinkState:
        """Whether a publisher is there, and lets this reader in."""
        return self._link.state()

    def close(self) -> None:
        """Let go of the connection. May be called twice."""
        self._link.close()
        self._socket.close()
        self._context.term()
        if self._shared is not None:
            self._shared.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def receive(self, timeout: float | None = None) -> Message | None:
        """Give the next message, whatever run it is of.

        Unlike iterating, it leaves the connection open after an error, so one may go on.

        Parameters
        ----------
        timeout
            Seconds to wait; None waits for ever.

        Returns
        -------
        Message or None
            None if nothing came.

        Raises
        ------
        RefocusError
            What came is not schema ``refocus/1``.
        """
        silent_at = math.inf if timeout is None else time.monotonic() + timeout
        while self._socket.poll(0) or self._wait(silent_at):
            parts = self._socket.recv_multipart(copy=False)
            if len(parts) > 1 and (message := self._read(*parts)) is not None:
                return message
            if time.monotonic() >= silent_at:  # what is passed over may come without end
                break
        return None

    def _read(self, *parts: zmq.Frame) -> Message | None:
        """Read a message; None for one that is gone by now, or of a topic of a later version."""
        topic, header = bytes(parts[0].buffer), bytes(parts[1].buffer)
        if topic == FRAME:
            return self._frame(header, parts[2:])
        if topic == SHARED and self._shared is not None:
            return self._shared_frame(self._shared, header, parts[2:])
        if (kind := SAID.get(topic)) is None:
            return None
        said = kind.decode(header)
        self._catch_up(said, said.next_number)
        if isinstance(said, StatsHeader):
            self.stats = said
            self.end = said if isinstance(said, EndHeader) else self.end
        elif self._shared is not None and not said.shared_memory:
            raise RefocusError(
                f"endpoint {self.endpoint}: publishes without shared memory; subscribe "
                "without it, or start the publisher with it"
            )
        else:
            self.run = said
        return said

    def _wait(self, until: float) -> bool:
        """Wait for something to come, and see to the link meanwhile; False if nothing did."""
        while True:
            self._renew()
            left = until - time.monotonic()
            if self._socket.poll(max(0, int(min(left, LOOK_S) * 1000))):
                return True
            if left <= LOOK_S:
                return False

    def _renew(self) -> None:
        state = self._link.renew()
        if state == "connected":
            self._told_refused = False
        elif state == "refused" and not self._told_refused:
            self._told_refused = True
            logger.warning("%s; trying again", self._refusal())

    def _frame(self, data: bytes, parts: Sequence[zmq.Frame]) -> ReceivedFrame:
        header = FrameHeader.decode(data)
        dtype = np.dtype(header.dtype).newbyteorder("<")
        size = dtype.itemsize * header.shape[0] * header.shape[1]
        if not parts or any(len(part.buffer) != size for part in parts):
            raise RefocusError(
                f"frame {header.number}: its pixels are not the {size} bytes that its header "
                "tells; the publisher does not keep to schema refocus/1"
            )
        images = [np.frombuffer(part.buffer, dtype).reshape(header.shape) for part in parts]
        return self._received(header, images)

    def _shared_frame(
        self, shared: SharedReader, data: bytes, parts: Sequence[zmq.Frame]
    ) -> ReceivedFrame | None:
        header = FrameHeader.decode(data)
        place = SharedPixels.decode(bytes(parts[0].buffer) if parts else b"")
        dtype = np.dtype(header.dtype).newbyteorder("<")
        images = shared.read(place, header.shape, dtype)
        if shared.file != self._mapped:
            self._mapped = shared.file
            self._socket.setsockopt(zmq.SUBSCRIBE, MAPPED + Path(shared.file).name.encode())
        return None if images is None else self._received(header, images)

    def _received(self, header: FrameHeader, images: Sequence[Pixels]) -> ReceivedFrame:
        for image in images:
            image.flags.writeable = False
        lost = self._catch_up(header, header.number)
        self._expected = header.number + 1
        self.received += 1
        return ReceivedFrame(header, images[0], images[1] if len(images) > 1 else None, lost)

    def _catch_up(self, header: Header, number: int) -> int:
        """Count what was sent before ``number`` and did not come; notice a new run."""
        if header.run != self._run_id:
            # of the first run heard, what was sent before we joined is not lost
            self._expected = 0 if self._run_id else number
            self._run_id = header.run
            self.run = self.stats = self.end = None
        lost = max(0, number - self._expected)
        self._expected = max(self._expected, number)
        self.lost += lost
        return lost


def subscribe(
    endpoint: str,
    timeout: float | None = None,
    *,
    runs: int | None = 1,
    high_water: int = 64,
    shared_memory: bool = False,
    keys: Path | None = None,
) -> Subscription:
    """Connect to a publisher, and be counted by it.

    Parameters
    ----------
    endpoint
        Such as ``"tcp://127.0.0.1:5555"``.
    timeout, runs, high_water, shared_memory, keys
        See :class:`Subscription`.

    Returns
    -------
    Subscription
        Iterate over it for frames, or over its ``messages()`` for all that comes.

    Raises
    ------
    RefocusError
        The endpoint is not one.
    """
    return Subscription(endpoint, timeout, runs, high_water, shared_memory=shared_memory, keys=keys)
