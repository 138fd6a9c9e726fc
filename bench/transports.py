"""How fast frames reach another process: bare ZeroMQ, bare shared memory, and this publisher.

Each transport is measured twice: paced, for the time from capture to subscriber less that of the
engine, and flooded, for the throughput, never more than ``WINDOW`` frames ahead of the reader, so
that nothing is lost for want of room. A frame is as fresh from the engine, in the processor's
cache; the reader has it complete, and to itself.
"""

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import zmq

from refocus.acquisition.pipeline.frame import CapturedFrame, FrameResult
from refocus.acquisition.pipeline.pipeline import Pipeline
from refocus.acquisition.pipeline.sink import RunInfo
from refocus.acquisition.pipeline.stats import Stats
from refocus.acquisition.sinks.publisher import Publisher
from refocus.bench.calibrated_engine import CalibratedEngine, rounds_per_second
from refocus.bench.reader import (
    BARE,
    BARE_SHARED,
    LAST,
    NUMBER,
    OURS,
    OURS_SHARED,
    SHAPE,
    Replies,
)
from refocus.bench.rows import FPS, Progress
from refocus.configs import RefocusError
from refocus.engine.protocol import Frame
from refocus.stream.shared_memory import SharedFrames

WINDOW = 8
WARM = 16  # frames before those measured: memory that was never touched is many times slower
ENGINE_LOAD = 0.25

TRANSPORTS = {
    "ipc": (BARE, "ipc"),
    "tcp": (BARE, "tcp"),
    "shared-memory": (BARE_SHARED, "tcp"),
    "publisher-ipc": (OURS, "ipc"),
    "publisher-tcp": (OURS, "tcp"),
    "publisher-shared-memory": (OURS_SHARED, "tcp"),
}
"""By name: what is read, and over which of ZeroMQ's own transports."""


@dataclass(frozen=True)
class TransportRow:
    """One transport and size of frame; medians of several runs, ``lost`` their sum.

    Attributes
    ----------
    name
        A key of ``TRANSPORTS``.
    frame
        Height and width, pixels of 16 bits.
    latency_p50_ms, latency_p99_ms
        From capture to subscriber, less engine time, at the rate of a paced camera.
    ratio
        ``latency_p50_ms`` over that of the same transport bare.
    fps, gb_per_s
        Frames and GB per second when flooded.
    lost
        Frames that did not arrive.
    """

    name: str
    frame: int
    latency_p50_ms: float
    latency_p99_ms: float
    ratio: float
    fps: float
    gb_per_s: float
    lost: int


@dataclass(frozen=True)
class _Measured:
    p50: float
    p99: float
    fps: float
    lost: int


@dataclass(frozen=True)
class Sending:
    """How much to send.

    Attributes
    ----------
    sides
        Height and width of the frames; keys of ``FPS``.
    frames
        How many, paced and again flooded.
    runs
        How often, transports taking turns.
    """

    sides: tuple[int, ...] = (512, 2048)
    frames: int = 200
    runs: int = 3


QUICK = Sending(frames=30, runs=1)


def measure_transports(
    sending: Sending, progress: Progress = lambda text, done: None
) -> list[TransportRow]:
    """Measure every transport that this system has."""
    speed = rounds_per_second()
    names = [name for name, (_, over) in TRANSPORTS.items() if over == "tcp" or zmq.has("ipc")]
    rows = []
    for place, side in enumerate(sending.sides):
        measured: dict[str, list[_Measured]] = {name: [] for name in names}
        for run in range(sending.runs):
            for turn, name in enumerate(names):
                part = (turn / len(names) + run) / sending.runs
                progress(f"{side}² {name}", (place + part) / len(sending.sides))
                measured[name].append(_measure(name, side, sending.frames, speed))
        rows += [_row(name, side, measured) for name in names]
    return rows


def _row(name: str, side: int, measured: dict[str, list[_Measured]]) -> TransportRow:
    runs, bare = measured[name], measured[name.removeprefix("publisher-")]
    fps = float(np.median([run.fps for run in runs]))
    return TransportRow(
        name=name,
        frame=side,
        latency_p50_ms=float(np.median([run.p50 for run in runs])),
        latency_p99_ms=float(np.median([run.p99 for run in runs])),
        ratio=float(np.median([ours.p50 / its.p50 for ours, its in zip(runs, bare, strict=True)])),
        fps=fps,
        gb_per_s=fps * side * side * 2 / 1e9,
        lost=sum(run.lost for run in runs),
    )


def _measure(name: str, side: int, frames: int, speed: float) -> _Measured:
    kind, over = TRANSPORTS[name]
    pixels = np.full((side, side), 100, np.uint16)
    ours = kind in (OURS, OURS_SHARED)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="refocus-")))
        endpoint = f"ipc://{folder}/b" if over == "ipc" else "tcp://127.0.0.1:*"
        sending = _ours if ours else _bare
        send_to = stack.enter_context(sending(kind, endpoint, pixels.nbytes))
        replies = stack.enter_context(Replies(kind, send_to.endpoint))
        replies.wait_for(send_to.endpoint, send_to.reader_came)
        period_s = 1 / FPS[side]
        engine = CalibratedEngine(ENGINE_LOAD * period_s if ours else 0.0, speed)
        with send_to.run(engine) as send:
            sent = _pace(send, replies, pixels, range(WARM + frames), period_s)
        took_ms = send_to.took_ms
        latency_ms = [
            (ns - sent[number]) / 1e6 - took_ms.get(number, 0.0)
            for number, ns in replies.received.items()
            if number >= WARM
        ]
        replies.received.clear()
        with send_to.run(CalibratedEngine(0.0, speed)) as send:
            _flood(send, replies, pixels, range(WARM + frames))
        times = sorted(ns for number, ns in replies.received.items() if number >= WARM)
    if len(times) < 2 or not latency_ms:
        raise RefocusError(f"transport {name}: nothing arrives; see that processes can connect")
    return _Measured(
        p50=float(np.percentile(latency_ms, 50)),
        p99=float(np.percentile(latency_ms, 99)),
        fps=(len(times) - 1) / ((times[-1] - times[0]) / 1e9),
        lost=2 * frames - len(times) - len(latency_ms),
    )


Send = Callable[[int, Frame], None]


class _Sender(Protocol):
    endpoint: str
    took_ms: dict[int, float]

    def reader_came(self, wait_s: float) -> bool: ...

    def run(self, engine: CalibratedEngine) -> Any: ...


def _pace(
    send: Send, replies: Replies, pixels: Frame, numbers: range, period_s: float
) -> dict[int, int]:
    sent: dict[int, int] = {}
    due = time.perf_counter()
    for number in numbers:
        due = max(due + period_s, time.perf_counter())
        while replies.take(0.0):
            pass
        time.sleep(max(0.0, due - time.perf_counter()))
        sent[number] = time.perf_counter_ns()
        send(number, pixels)
    replies.take_all(len(numbers))
    return sent


def _flood(send: Send, replies: Replies, pixels: Frame, numbers: range) -> None:
    for ahead, number in enumerate(numbers):
        while ahead - len(replies.received) >= WINDOW:
            if not replies.take(2.0):
                return
        send(number, pixels)
    replies.take_all(len(numbers))


@contextmanager
def _bare(kind: str, endpoint: str, frame_bytes: int) -> Iterator[_Sender]:
    """Send with ZeroMQ and, for shared memory, our ring; but no header, and no pipeline."""
    with ExitStack() as stack:
        context = zmq.Context()
        stack.callback(context.term)
        socket = context.socket(zmq.XPUB)
        stack.callback(socket.close)
        socket.setsockopt(zmq.SNDHWM, 0)
        socket.setsockopt(zmq.LINGER, 0)
        socket.bind(endpoint)
        shared = SharedFrames(frame_bytes) if kind == BARE_SHARED else None
        if shared:
            stack.callback(shared.close)
        yield _Bare(socket, shared)
        socket.send(NUMBER.pack(LAST))


class _Bare:
    def __init__(self, socket: "zmq.Socket[bytes]", shared: SharedFrames | None) -> None:
        bound = socket.getsockopt(zmq.LAST_ENDPOINT)
        assert isinstance(bound, bytes)
        self.endpoint = bound.rstrip(b"\0").decode()
        self.took_ms: dict[int, float] = {}
        self._socket = socket
        self._shared = shared

    def reader_came(self, wait_s: float) -> bool:
        came = bool(self._socket.poll(int(wait_s * 1000)))
        if came:
            self._socket.recv()
        return came

    @contextmanager
    def run(self, engine: CalibratedEngine) -> Iterator[Send]:
        yield self._send

    def _send(self, number: int, pixels: Frame) -> None:
        if self._shared is None:
            self._socket.send_multipart([NUMBER.pack(number), pixels.data], copy=False)
        else:
            place = self._shared.write(pixels)
            assert place is not None  # nobody holds a slot
            shape = SHAPE.pack(*pixels.shape)
            self._socket.send_multipart([NUMBER.pack(number), shape, place.encode()])


@contextmanager
def _ours(kind: str, endpoint: str, frame_bytes: int) -> Iterator[_Sender]:
    """Send through the pipeline and the publisher, as a run does."""
    shared = kind == OURS_SHARED
    with Publisher(
        endpoint, frame_bytes=frame_bytes, high_water=1000, shared_memory=shared
    ) as publisher:
        yield _Ours(publisher)


class _Ours:
    def __init__(self, publisher: Publisher) -> None:
        self.endpoint = publisher.endpoint
        self.took_ms: dict[int, float] = {}
        self._publisher = publisher

    def reader_came(self, wait_s: float) -> bool:
        return self._publisher.wait_subscribers(1, wait_s)

    @contextmanager
    def run(self, engine: CalibratedEngine) -> Iterator[Send]:
        pipeline = Pipeline(engine, (self._publisher, self), throttle=True)
        run = pipeline.start(RunInfo(f"bench {engine.seconds}"))

        def send(number: int, pixels: Frame) -> None:
            captured_ns = time.perf_counter_ns()
            utc = datetime.now(UTC).isoformat(timespec="microseconds")
            pipeline.submit(CapturedFrame(pixels, number, utc, captured_ns))

        yield send
        pipeline.close()
        run.stats().check()

    # -- as a sink

    def start(self, run: RunInfo) -> None:
        """Do nothing."""

    def put(self, result: FrameResult) -> None:
        """Note how long the engine took."""
        self.took_ms[result.captured.frame] = result.engine_ms

    def close(self, stats: Stats) -> None:
        """Do nothing."""
