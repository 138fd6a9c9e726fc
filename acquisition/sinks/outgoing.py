"""What is on its way from a publisher to its readers, and within which bounds.

Small frames travel in ZeroMQ's messages. Large ones are written once, into memory: the relay sends
them on from there (:mod:`refocus.acquisition.sinks.notes`), and so may readers on this host
(:mod:`refocus.stream.shared_memory`). That memory is made beside the acquisition, and until it is
there, or where there is none, large frames travel as small ones do.
"""

import logging
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import zmq

from refocus.acquisition.sinks.asked import Asked
from refocus.acquisition.sinks.backlog import Backlog
from refocus.acquisition.sinks.entrance import Entrance, why_not
from refocus.acquisition.sinks.notes import NOTE, NOTED
from refocus.configs import RefocusError
from refocus.engine.protocol import Frame
from refocus.stream import messages
from refocus.stream.keys import guard
from refocus.stream.shared_memory import (
    FEWEST_SLOTS,
    MAPPED,
    RING_BYTES,
    SHARED,
    SharedFrames,
    SharedPixels,
    has_memory,
)

if TYPE_CHECKING:
    from typing_extensions import Buffer

logger = logging.getLogger("refocus.acquisition")

BACKLOG_BYTES = 512_000_000
"""What may wait for all readers together, but for one frame, and half of it for one reader."""
NOTED_BYTES = 1_000_000
"""From this size on a frame is cheaper to write into memory than to carry."""
LET_GO_S = 0.1
"""Between two readers that are let go: what waits for one is freed meanwhile."""
SAID_BYTES = 4096
"""The longest that a reader may say at once."""
HANDSHAKE_MS = 5000


class Outgoing:
    """A publisher's socket, and what it holds for its readers. For one thread at a time.

    Parameters
    ----------
    endpoint, keys, frame_bytes, high_water, linger_seconds, shared_memory
        See :class:`refocus.acquisition.sinks.publisher.Publisher`; ``frame_bytes`` with the
        captured pixels, if they are sent.

    Attributes
    ----------
    endpoint
        Where readers connect, with the port that was chosen.
    readers
        What they have asked for.
    shared
        Whether readers on this host are offered memory.

    Raises
    ------
    RefocusError
        The endpoint is not one, or is in use.
    """

    def __init__(
        self,
        endpoint: str,
        *,
        keys: Path | None,
        frame_bytes: int,
        high_water: int | None,
        linger_seconds: float,
        shared_memory: bool,
    ) -> None:
        self.shared = shared_memory
        self._ring = SharedFrames(frame_bytes) if shared_memory else None
        self._making: threading.Thread | None = None
        self._file, self._mapped = "", b""
        self._backlog = Backlog()
        self._let_go_at = 0.0
        self._linger_seconds = linger_seconds
        self._guard: Any = None
        self._entrance: Entrance | None = None
        self._noted = keys is None and has_memory() and sys.byteorder == "little"
        if Entrance.serves(endpoint):
            self._entrance = Entrance(endpoint, linger_seconds, self._noted, self._release_slots)
        self._noted = self._noted and self._entrance is not None
        self._context = zmq.Context()
        self._socket: zmq.Socket[bytes] = self._context.socket(zmq.XPUB)
        self.readers = Asked(self._socket)
        self._socket.setsockopt(zmq.LINGER, int(linger_seconds * 1000))
        self._socket.setsockopt(zmq.XPUB_VERBOSER, 1)  # two readers of a topic are not one
        self._socket.setsockopt(zmq.MAXMSGSIZE, SAID_BYTES)
        self._socket.setsockopt(zmq.HANDSHAKE_IVL, HANDSHAKE_MS)
        self._socket.setsockopt(zmq.SNDBUF, 1 << 20)
        self._chosen = high_water
        self._expected = frame_bytes
        self._largest = frame_bytes or 8_000_000
        self._choose_high_water()
        try:
            if keys is not None:
                self._guard = guard(self._socket, keys)
            self._socket.bind(self._entrance.inner if self._entrance else endpoint)
            self.endpoint = self._socket.getsockopt_string(zmq.LAST_ENDPOINT).rstrip("\0")
            if self._entrance:
                self._entrance.open(self.endpoint)
                self.endpoint = self._entrance.endpoint
        except (zmq.ZMQError, ValueError, OSError) as error:
            self.close(0.0)
            raise RefocusError(why_not(endpoint, error)) from None
        except RefocusError:
            self.close(0.0)
            raise

    def prepare(self) -> None:
        """Make the memory for large frames, where somebody takes them and their size is known."""
        if self._noted and self._expected >= NOTED_BYTES and self.readers.count(messages.FRAME):
            self._has_memory(self._expected)

    def wanted(self) -> bool:
        """Whether any reader takes frames."""
        return self.readers.count(messages.FRAME) > 0 or self._wanted_shared()

    def send(self, topic: bytes, header: messages.Header, *contents: "Buffer") -> None:
        """Send a message, without waiting."""
        if self._socket.closed:
            return
        parts: list[Buffer | zmq.Frame] = [topic, header.encode()]
        for content in contents:
            if isinstance(content, bytes):  # a note: following it costs more than to copy it
                parts.append(content)
                continue
            part = zmq.Frame(content, track=True, copy=False, copy_threshold=0)
            parts.append(part)
            self._backlog.add(part.tracker, len(part.buffer))
        self._socket.send_multipart(parts, zmq.NOBLOCK, copy=False)

    def send_frame(self, header: messages.Header, *images: Frame) -> None:
        """Send a frame to whoever takes it, in the ways that they take it.

        Parameters
        ----------
        images
            The refocused pixels, and the captured ones if they are sent, as they travel. ZeroMQ
            may read their memory, and keep it alive, until the last reader has them.
        """
        if self._socket.closed:
            return
        on_wire, shared = self.readers.count(messages.FRAME) > 0, self._wanted_shared()
        size = sum(image.nbytes for image in images)
        noted = on_wire and self._noted and size >= NOTED_BYTES
        noted = noted and (shared or self._has_memory(size))
        place = self._write(*images) if noted or shared else None
        if noted and place is not None:
            self.send(NOTED, header, _note(place, images[0].nbytes))
        elif on_wire and self._has_room(size):
            self.send(messages.FRAME, header, *(image.data.cast("B") for image in images))
        if shared and place is not None:
            if place.file != self._file:
                self._file = place.file
                self._mapped = MAPPED + Path(place.file).name.encode()
                self.readers.expect(self._mapped)
            self.send(SHARED, header, place.encode())

    def on_their_way(self) -> int:
        """Count the message parts that ZeroMQ still holds."""
        return self._backlog.settle()

    def unmapped(self) -> bool:
        """Whether a reader has yet to map the memory that its frames are in."""
        self.readers.read()
        mapped, asked = self.readers.exactly(self._mapped), self.readers.exactly(SHARED)
        return bool(self._mapped) and mapped < asked and not self._socket.closed

    def unbind(self) -> None:
        """Take nothing more to be sent. May be called twice."""
        if not self._socket.closed:
            self._socket.close()

    def close(self, seconds: float) -> None:
        """End, once readers have what is on its way, in so many seconds. May be called twice."""
        self.unbind()
        if self._guard is not None:
            self._guard.stop()
            self._guard = None
        self._context.term()
        if self._entrance is not None:
            self._entrance.close(max(0.1, seconds))
        if self._making is not None:
            self._making.join()
        if self._ring is not None:
            self._ring.close()

    # -- in memory

    def _wanted_shared(self) -> bool:
        return self.shared and self.readers.exactly(SHARED) > 0

    def _has_memory(self, size: int) -> bool:
        """Whether memory for such a frame is there; if not, it is made, and meanwhile carried."""
        if self._making is not None and self._making.is_alive():
            return False
        self._making = None
        if self._ring is not None and self._ring.fits(size):
            return True
        self._making = threading.Thread(target=self._make_memory, args=(size,), daemon=True)
        self._making.start()
        return False

    def _make_memory(self, size: int) -> None:
        most = 1000 if self._chosen is None else self._chosen
        slots = max(FEWEST_SLOTS, min(most, RING_BYTES // size))
        before = self._ring
        try:
            self._ring = SharedFrames(size, slots=slots)
        except RefocusError:
            self._noted = False  # no room: frames are carried, as they were until now
        else:
            if before is not None:
                before.close()

    def _write(self, *images: Frame) -> SharedPixels | None:
        if self._making is not None:
            self._making.join()
            self._making = None
        if self._ring is None:
            return None
        try:
            place = self._ring.write(*images)
        except RefocusError as error:
            logger.error("%s", error)  # readers of memory see a gap, all others are served
            self._ring.close()
            self._ring, self.shared, self._noted = None, False, False
            return None
        if 2 * self._ring.held > self._ring.slots:
            self._let_slowest_go()
        return place

    def _release_slots(self) -> None:
        """Expect nothing more of a relay that has ended, and nothing impossible of the next."""
        if (ring := self._ring) is not None:
            ring.release()
            if ring.file is None or not ring.file.exists():
                self._noted = False  # somebody has deleted it

    # -- in messages

    def _has_room(self, size: int) -> bool:
        """Whether a frame of that size may be sent; where much waits, the slowest is let go."""
        if size > self._largest:
            self._largest = size
            self._choose_high_water()
        if self._backlog.bytes + size <= BACKLOG_BYTES:
            return True
        self._backlog.settle()
        if self._backlog.bytes + size <= BACKLOG_BYTES:
            return True
        self._let_slowest_go()
        return self._backlog.bytes <= BACKLOG_BYTES  # the others miss nothing meanwhile

    def _let_slowest_go(self) -> None:
        now = time.monotonic()
        if self._entrance is not None and now - self._let_go_at > LET_GO_S:
            self._let_go_at = now
            self._entrance.let_slowest_go()

    def _choose_high_water(self) -> None:
        """Choose how many messages may wait for whoever connects from now on."""
        chosen = min(1000, max(4, BACKLOG_BYTES // 2 // self._largest))
        self._socket.setsockopt(zmq.SNDHWM, chosen if self._chosen is None else self._chosen)


def _note(place: SharedPixels, size: int) -> bytes:
    raw_at = place.raw_at or 0
    numbers = NOTE.pack(place.generation, place.generation_at, place.pixels_at, size, raw_at)
    return numbers + place.file.encode()


def as_sent(pixels: Frame) -> Frame:
    """Give pixels little-endian and C-ordered; itself if it is, as it nearly always is."""
    return np.ascontiguousarray(pixels, dtype=pixels.dtype.newbyteorder("<"))
