"""Results over ZeroMQ: a sink that publishes schema ``refocus/1``.

The socket is guarded by one lock. The worker sends frames itself, because a further thread would
cost each frame a switch; the ticker sends the messages of every second; whoever waits for readers
counts them. Sending never blocks: for a reader that does not keep up, ZeroMQ drops messages at
its high-water mark, and the reader sees a gap in the numbers. What nobody reads is not made.
"""

import errno
import ipaddress
import logging
import re
import threading
import time
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import zmq

from refocus.acquisition.pipeline.frame import FrameResult
from refocus.acquisition.pipeline.sink import RunInfo
from refocus.acquisition.pipeline.stats import Stats
from refocus.acquisition.sinks import headers
from refocus.configs import RefocusError
from refocus.engine.protocol import EngineInfo, Frame
from refocus.stream import messages
from refocus.stream.keys import guard
from refocus.stream.shared_memory import MAPPED, SHARED, SharedFrames

if TYPE_CHECKING:
    from typing_extensions import Buffer

logger = logging.getLogger("refocus.acquisition")

BACKLOG_BYTES = 512_000_000
"""What may wait for one slow reader, unless told otherwise."""


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
    ) -> None:
        if not insecure and keys is None:
            _refuse_beyond_host(endpoint)
        if high_water is None:
            # never fewer than the slots of shared memory, whose readers get notes through here, too
            per_frame = frame_bytes * (1 + raw) or 8_000_000
            high_water = min(1000, max(16, BACKLOG_BYTES // per_frame))
        self._raw = raw
        self._linger_seconds = linger_seconds
        self._end: messages.EndHeader | None = None
        self._trackers: deque[zmq.MessageTracker] = deque()
        self._lock = threading.Lock()
        self._readers: Counter[bytes] = Counter()
        self._run: RunInfo | None = None
        self._engines: set[tuple[str, str, str]] = set()
        self._next_number = 0
        self._shared = SharedFrames(frame_bytes * (1 + raw)) if shared_memory else None
        self._mapped = b""
        self._context = zmq.Context()
        self._socket: zmq.Socket[bytes] = self._context.socket(zmq.XPUB)
        self._socket.setsockopt(zmq.SNDHWM, high_water)
        self._socket.setsockopt(zmq.LINGER, int(linger_seconds * 1000))
        self._socket.setsockopt(zmq.XPUB_VERBOSER, 1)  # two readers of a topic are not one
        self._guard: Any = None
        try:
            if keys is not None:
                self._guard = guard(self._socket, keys)
            self._socket.bind(re.sub(r"^tcp://localhost:", "tcp://127.0.0.1:", endpoint))
        except (zmq.ZMQError, ValueError, OSError) as error:
            self.release()
            raise RefocusError(_why_not(endpoint, error)) from None
        except RefocusError:
            self.release()
            raise
        bound = self._socket.getsockopt(zmq.LAST_ENDPOINT)
        self.endpoint = bound.rstrip(b"\0").decode() if isinstance(bound, bytes) else endpoint

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
            self._read_subscriptions()
            return self._count(messages.READERS)

    def _count(self, topic: bytes) -> int:
        return sum(count for asked, count in self._readers.items() if topic.startswith(asked))

    # -- as a sink

    def start(self, run: RunInfo) -> None:
        """Announce a run."""
        self._send_end_now()
        with self._lock:
            self._run = run
            self._engines = {_engine_key(run.engine)}
            self._next_number = 0
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
            self._read_subscriptions()
            on_wire, shared = self._count(messages.FRAME) > 0, self._shared
            if shared is not None and self._readers[SHARED] <= 0:
                shared = None
            if not on_wire and shared is None:
                return
            age_ms = (time.perf_counter_ns() - result.captured.captured_ns) / 1e6
            header = headers.frame_header(self._run.run, result, age_ms)
            if on_wire:
                self._send(messages.FRAME, header, pixels, *raw)
            if shared is not None:
                self._share(shared, header, pixels, *raw)

    def tick(self, stats: Stats) -> None:
        """Repeat the description of the run, and publish its stats."""
        self._send_end_now()
        with self._lock:
            self._read_subscriptions()
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
        if self._shared is not None:
            self._shared.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
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
        self._run = replace(run, engine={**told, **now, "fallback_from": failed})
        self._announce(self._run)

    def _announce(self, run: RunInfo) -> None:
        header = headers.run_header(run, self._next_number, self._shared is not None)
        self._send(messages.RUN, header)

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
        self._mapped = MAPPED + Path(place.file).name.encode()
        self._send_parts(SHARED, header, place.encode())

    def _unmapped(self) -> bool:
        """Whether a reader has yet to map the memory that its frames are in."""
        with self._lock:
            self._read_subscriptions()
            mapped = not self._mapped or self._readers[self._mapped] >= self._readers[SHARED]
            return not mapped and not self._socket.closed

    def _send(self, topic: bytes, header: messages.Header, *pixels: Frame) -> None:
        if self._socket.closed:
            return
        # copy=False: ZeroMQ reads the arrays' own memory, and keeps them alive, until the last
        # reader has them. Nobody writes to it: an engine's result is new, a captured frame sacred.
        self._send_parts(topic, header, *(image.data.cast("B") for image in pixels))

    def _send_parts(self, topic: bytes, header: messages.Header, *tracked: "Buffer") -> None:
        parts: list[Buffer | zmq.Frame] = [topic, header.encode()]
        for content in tracked:
            part = zmq.Frame(content, track=True, copy=False, copy_threshold=0)
            parts.append(part)
            self._trackers.append(part.tracker)
        self._socket.send_multipart(parts, zmq.NOBLOCK, copy=False)
        while self._trackers and self._trackers[0].done:
            self._trackers.popleft()

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
            if self._end is not None:
                self._send(messages.END, self._end)
                self._end = None

    def _on_their_way(self) -> bool:
        with self._lock:
            self._trackers = deque(tracker for tracker in self._trackers if not tracker.done)
            return bool(self._trackers)

    def _read_subscriptions(self) -> None:
        while not self._socket.closed and int(self._socket.getsockopt(zmq.EVENTS)) & zmq.POLLIN:
            message = self._socket.recv()
            if message[:1] in (b"\0", b"\1"):
                topic = message[1:]
                self._readers[topic] += 1 if message[:1] == b"\1" else -1


def _engine_key(engine: Mapping[str, Any]) -> tuple[str, str, str]:
    name, sha256, device = (str(engine.get(key, "")) for key in ("name", "sha256", "device"))
    return name, sha256, device


def _as_sent(pixels: Frame) -> Frame:
    """Give pixels little-endian and C-ordered; itself if it is, as it nearly always is."""
    return np.ascontiguousarray(pixels, dtype=pixels.dtype.newbyteorder("<"))


def _refuse_beyond_host(endpoint: str) -> None:
    match = re.match(r"^(?!ipc:|inproc:)\w+://\[?([^\]]*?)\]?:[^:]*$", endpoint)
    if match is None:
        return  # within this host; or no endpoint at all, as the socket will say
    host = match[1]
    try:
        local = ipaddress.ip_address(host).is_loopback
    except ValueError:
        local = host == "localhost"
    if not local:
        raise RefocusError(
            f"endpoint {endpoint}: other hosts could read every frame; publish on 127.0.0.1, "
            "give readers keys (refocus-live keys DIR, then --keys DIR/publisher), or allow it "
            "with --insecure"
        )


def _why_not(endpoint: str, error: Exception) -> str:
    code = getattr(error, "errno", None)
    if code == zmq.EADDRINUSE:
        return f"endpoint {endpoint}: in use by another program; choose another port, or end it"
    if code == errno.EACCES:
        return f"endpoint {endpoint}: not permitted; choose a port above 1023"
    if code in (zmq.EADDRNOTAVAIL, errno.ENODEV):
        return f"endpoint {endpoint}: this host has no such address; publish on 127.0.0.1"
    return (
        f"endpoint {endpoint}: not one to bind to ({error}); "
        "write for example tcp://127.0.0.1:5555 or ipc:///tmp/refocus"
    )
