"""Results over ZeroMQ: a sink that publishes schema ``refocus/1``.

The socket is guarded by one lock. The worker sends frames itself, because a further thread would
cost each frame a switch; the ticker sends the messages of every second; whoever waits for readers
counts them. Sending never blocks: for a reader that does not keep up, ZeroMQ drops messages at
its high-water mark, and the reader sees a gap in the numbers; and the one that is stuck the longest
is let go once too many bytes wait. What nobody reads is not made.

Readers do not connect to this socket, but to an :mod:`~refocus.acquisition.sinks.entrance`, whose
bounds hold for whatever strangers do. So the work of a turn under the lock is bounded, too.
"""

import logging
import threading
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import zmq

from refocus.acquisition.pipeline.frame import FrameResult
from refocus.acquisition.pipeline.sink import RunInfo
from refocus.acquisition.pipeline.stats import Stats
from refocus.acquisition.sinks import headers
from refocus.acquisition.sinks.asked import Asked
from refocus.acquisition.sinks.backlog import Backlog
from refocus.acquisition.sinks.entrance import Entrance, refuse_beyond_host, why_not
from refocus.configs import RefocusError
from refocus.engine.protocol import EngineInfo, Frame
from refocus.stream import messages
from refocus.stream.keys import guard
from refocus.stream.shared_memory import MAPPED, SHARED, SharedFrames

if TYPE_CHECKING:
    from typing_extensions import Buffer

logger = logging.getLogger("refocus.acquisition")

BACKLOG_BYTES = 512_000_000
"""What may wait for all readers together, but for one frame, and half of it for one reader."""
LET_GO_S = 0.1
"""Between two readers that are let go: what waits for one is freed meanwhile."""
TURNS = 20
"""In which the ticker, every second, reads what readers have said."""
SAID_BYTES = 4096
"""The longest that a reader may say at once."""
HANDSHAKE_MS = 5000
LOCK_S = 0.2
"""How long the ticker, which watches over the engine, waits for its turn at the socket."""


class Publisher:
    """Publishes every result on an XPUB socket.

    Parameters
    ----------
    endpoint
        Where to bind, such as ``"tcp://127.0.0.1:5555"``, ``"tcp://127.0.0.1:*"`` for any free
        port, or ``"ipc:///tmp/refocus"``.
    raw
        Send the captured pixels, too.
    insecure
        Allow an address that other hosts can reach; whoever reaches it can read the frames.
    keys
        The publisher's folder of keys, see :mod:`refocus.stream.keys`: what is sent is
        encrypted, and only readers with a key can connect. Other hosts may reach it then.
    frame_bytes
        Size of a frame, from which the high-water mark is chosen; 0 where unknown.
    high_water
        Messages that may wait for one slow reader, instead of that choice.
    linger_seconds
        How long ``release`` waits for readers to take what is still on its way.
    shared_memory
        Offer readers on this host the pixels in shared memory, too; see
        :mod:`refocus.stream.shared_memory`.
    made
        How results are made, for what is said of their pixels; by default as ``attach`` makes them.

    Raises
    ------
    RefocusError
        The endpoint is not one, is in use, or can be reached from beyond this host.
    """

    def __init__(
        self,
        endpoint: str,
        *,
        raw: bool = False,
        insecure: bool = False,
        keys: Path | None = None,
        frame_bytes: int = 0,
        high_water: int | None = None,
        linger_seconds: float = 3.0,
        shared_memory: bool = False,
        made: headers.Made | None = None,
    ) -> None:
        if not insecure and keys is None:
            refuse_beyond_host(endpoint)
        self._raw = raw
        self._made = made or headers.Made()
        self._linger_seconds = linger_seconds
        self._end: messages.EndHeader | None = None
        self._backlog = Backlog()
        self._let_go_at = 0.0
        self._lock = threading.Lock()
        self._run: RunInfo | None = None
        self._told: messages.RunHeader | None = None
        self._engines: set[tuple[str, str, str]] = set()
        self._next_number = 0
        self._faults: set[str] = set()
        self._shared = SharedFrames(frame_bytes * (1 + raw)) if shared_memory else None
        self._file, self._mapped = "", b""
        self._guard: Any = None
        self._entrance = Entrance(endpoint, linger_seconds) if Entrance.serves(endpoint) else None
        self._context = zmq.Context()
        self._socket: zmq.Socket[bytes] = self._context.socket(zmq.XPUB)
        self._readers = Asked(self._socket)
        self._socket.setsockopt(zmq.LINGER, int(linger_seconds * 1000))
        self._socket.setsockopt(zmq.XPUB_VERBOSER, 1)  # two readers of a topic are not one
        self._socket.setsockopt(zmq.MAXMSGSIZE, SAID_BYTES)
        self._socket.setsockopt(zmq.HANDSHAKE_IVL, HANDSHAKE_MS)
        self._socket.setsockopt(zmq.SNDBUF, 1 << 20)
        self._chosen = high_water
        self._largest = frame_bytes * (1 + raw) or 8_000_000
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
            self.release()
            raise RefocusError(why_not(endpoint, error)) from None
        except RefocusError:
            self.release()
            raise

    def wait_subscribers(self, count: int, timeout: float | None = None) -> bool:
        """Wait until that many readers have joined, so that they get frame 0.

        A reader counts when it subscribes to ``refocus.readers``, as ours does, or to everything.

        Parameters
        ----------
        count
            How many readers.
        timeout
            Seconds; None waits for ever.

        Returns
        -------
        bool
            False on timeout.
        """
        until = time.monotonic() + timeout if timeout is not None else None
        while self.subscribers() < count:
            if until is not None and time.monotonic() >= until:
                return False
            time.sleep(0.01)
        return True

    def subscribers(self) -> int:
        """Count the readers there are now."""
        with self._lock:
            self._readers.read()
            return self._readers.count(messages.READERS)

    # -- as a sink

    def start(self, run: RunInfo) -> None:
        """Announce a run."""
        self._send_end_now()
        with self._lock:
            self._engines = {_engine_key(run.engine)}
            self._next_number = 0
            self._faults.clear()
            self._announce(run)

    def put(self, result: FrameResult) -> None:
        """Publish a result, without copying its pixels."""
        pixels = _as_sent(result.pixels)
        raw = [_as_sent(result.captured.pixels)] if self._raw else []
        with self._lock:
            if self._run is None:
                return
            if result.engine is not None:
                self._follow_engine(self._run, result.engine)
            self._next_number = result.number + 1
            self._readers.read()
            on_wire, shared = self._readers.count(messages.FRAME) > 0, self._shared
            on_wire = on_wire and self._has_room(pixels.nbytes * (1 + self._raw))
            if shared is not None and self._readers.exactly(SHARED) <= 0:
                shared = None
            if not on_wire and shared is None:
                return
            age_ms = (time.perf_counter_ns() - result.captured.captured_ns) / 1e6
            try:
                header = headers.frame_header(self._run.run, result, age_ms, self._made)
            except ValueError as error:  # of pydantic: this frame is missing, and no other
                self._tell_once(f"frame {result.captured.frame} not published: {error}")
                return
            if on_wire:
                self._send(messages.FRAME, header, pixels, *raw)
            if shared is not None:
                self._share(shared, header, pixels, *raw)

    def tick(self, stats: Stats) -> None:
        """Repeat the description of the run, and publish its stats; no later than it can be."""
        for turn in range(TURNS):
            if not self._lock.acquire(timeout=LOCK_S):
                return
            try:
                if turn == 0:
                    self._tell_now(stats)
                if not self._readers.read():
                    return
            finally:
                self._lock.release()

    def _tell_now(self, stats: Stats) -> None:
        self._send_last()
        if self._run is not None and self._run.run == stats.run:
            self._announce(self._run)
            fields = headers.stats_fields(stats, self._next_number)
            self._send(messages.STATS, messages.StatsHeader(**fields))

    def close(self, stats: Stats) -> None:
        """Publish the final counts of the run."""
        with self._lock:
            fields = headers.stats_fields(stats, self._next_number)
            self._end = messages.EndHeader(**fields)
            self._run = None
        self._send_end(patience=0.1)

    # -- the socket

    def release(self) -> None:
        """Unbind, once readers have had time to take what is on its way. May be called twice."""
        until = time.monotonic() + self._linger_seconds
        self._send_end(patience=self._linger_seconds)
        self._send_end_now()
        while self._unmapped() and time.monotonic() < until:
            time.sleep(0.005)
        with self._lock:
            self._run = None
            if not self._socket.closed:
                self._socket.close()
        if self._guard is not None:
            self._guard.stop()
            self._guard = None
        self._context.term()
        if self._entrance is not None:
            self._entrance.close(max(0.1, until - time.monotonic()))
        if self._shared is not None:
            self._shared.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def _follow_engine(self, run: RunInfo, engine: EngineInfo) -> None:
        """Announce the run anew if its model is run by another engine than at its start.

        Another model is another channel's, and no fallback.
        """
        now, told = engine.describe(), run.engine
        key = _engine_key(now)
        if key in self._engines or now["sha256"] != told.get("sha256"):
            return
        self._engines.add(key)
        failed = told.get("fallback_from") or told.get("name", "")
        self._announce(replace(run, engine={**told, **now, "fallback_from": failed}))

    def _announce(self, run: RunInfo) -> None:
        if self._told is None or run is not self._run:
            self._told = headers.run_header(run, 0)
        self._run = run
        now = {"next_number": self._next_number, "shared_memory": self._shared is not None}
        self._send(messages.RUN, self._told.model_copy(update=now))

    def _tell_once(self, text: str) -> None:
        kind = text.partition(":")[2]
        if kind not in self._faults and len(self._faults) < 16:
            self._faults.add(kind)
            logger.error("%s", " ".join(text.split())[:300])

    def _share(self, shared: SharedFrames, header: messages.Header, *pixels: Frame) -> None:
        """Leave a frame in shared memory, and say where."""
        if self._socket.closed:
            return
        try:
            place = shared.write(*pixels)
        except RefocusError as error:
            logger.error("%s", error)  # its readers see a gap, and all others are served
            shared.close()
            self._shared = None
            return
        if place.file != self._file:
            self._file = place.file
            self._mapped = MAPPED + Path(place.file).name.encode()
            self._readers.expect(self._mapped)
        self._send_parts(SHARED, header, place.encode())

    def _unmapped(self) -> bool:
        """Whether a reader has yet to map the memory that its frames are in."""
        with self._lock:
            self._readers.read()
            mapped, asked = self._readers.exactly(self._mapped), self._readers.exactly(SHARED)
            return bool(self._mapped) and mapped < asked and not self._socket.closed

    def _send(self, topic: bytes, header: messages.Header, *pixels: Frame) -> None:
        if self._socket.closed:
            return
        # copy=False: ZeroMQ reads the arrays' own memory, and keeps them alive, until the last
        # reader has them. Nobody writes to it: an engine's result is new, a captured frame sacred.
        self._send_parts(topic, header, *(image.data.cast("B") for image in pixels))

    def _send_parts(self, topic: bytes, header: messages.Header, *contents: "Buffer") -> None:
        parts: list[Buffer | zmq.Frame] = [topic, header.encode()]
        for content in contents:
            if isinstance(content, bytes):  # a note: following it costs more than to copy it
                parts.append(content)
                continue
            part = zmq.Frame(content, track=True, copy=False, copy_threshold=0)
            parts.append(part)
            self._backlog.add(part.tracker, len(part.buffer))
        self._socket.send_multipart(parts, zmq.NOBLOCK, copy=False)

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
        now = time.monotonic()
        if self._entrance is not None and now - self._let_go_at > LET_GO_S:
            self._let_go_at = now
            self._entrance.let_slowest_go()
        return self._backlog.bytes <= BACKLOG_BYTES  # the others miss nothing meanwhile

    def _choose_high_water(self) -> None:
        """Choose how many messages may wait for whoever connects from now on."""
        chosen = min(1000, max(4, BACKLOG_BYTES // 2 // self._largest))
        self._socket.setsockopt(zmq.SNDHWM, chosen if self._chosen is None else self._chosen)

    def _send_end(self, patience: float) -> None:
        """Send the last message of a run, if that is still to do: the one that none should miss.

        A reader that is slow has no room for it before it has taken the frames on their way; they
        are waited for, but no longer than ``patience`` seconds.
        """
        until = time.monotonic() + patience
        while self._end is not None and self._on_their_way():
            if time.monotonic() >= until:
                return
            time.sleep(0.005)
        self._send_end_now()

    def _send_end_now(self) -> None:
        with self._lock:
            self._send_last()

    def _send_last(self) -> None:
        if self._end is not None:
            self._send(messages.END, self._end)
            self._end = None

    def _on_their_way(self) -> bool:
        with self._lock:
            return self._backlog.settle() > 0


def _engine_key(engine: Mapping[str, Any]) -> tuple[str, str, str]:
    name, sha256, device = (str(engine.get(key, "")) for key in ("name", "sha256", "device"))
    return name, sha256, device


def _as_sent(pixels: Frame) -> Frame:
    """Give pixels little-endian and C-ordered; itself if it is, as it nearly always is."""
    return np.ascontiguousarray(pixels, dtype=pixels.dtype.newbyteorder("<"))
