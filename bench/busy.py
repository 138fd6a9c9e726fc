"""Whether a run keeps an engine busy that is as fast as one on a GPU, on any machine.

Frames are there before they are needed, and go through the pipeline and the publisher to a reader
in another process, through shared memory. The engine overlaps them on a clock of its own
(:mod:`refocus.bench.device_clock`). At a side of 32 there is next to nothing to copy: what is left
of the worker's time is what it holds the GIL for.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import numpy as np

from refocus.acquisition.pipeline.frame import CapturedFrame, FrameResult
from refocus.acquisition.pipeline.pipeline import Pipeline
from refocus.acquisition.pipeline.sink import RunInfo
from refocus.acquisition.pipeline.stats import Stats
from refocus.acquisition.sinks.publisher import Publisher
from refocus.bench.device_clock import DeviceClock
from refocus.bench.reader import OURS_SHARED, Replies
from refocus.bench.rows import Progress
from refocus.engine.protocol import refocus_all
from refocus.engine.trust.judgement import Judgement

TILES = 32
"""Along each side: as many as a frame of 2048² has."""
BARE_SIDE = 32
QUEUE = 8


@dataclass(frozen=True)
class BusyRow:
    """One run; the engine's clock, the worker's processor time, and the accounts.

    Attributes
    ----------
    frame
        Height and width, pixels of 16 bits.
    trusted
        Part of the tiles whose correction is taken; the others are in one corner.
    engine_ms
        What the device takes for a frame.
    busy
        Part of the time that it worked.
    alone
        The same without a pipeline, a publisher and a reader: frames copied in and out.
    worker_ms
        Processor time of the worker's thread per frame, copies included.
    under_way
        The most frames under way at once.
    published, received
        Frames that the sinks had, and that the reader had.
    """

    frame: int
    trusted: float
    engine_ms: float
    busy: float
    alone: float
    worker_ms: float
    under_way: int
    published: int
    received: int


@dataclass(frozen=True)
class Keeping:
    """How much to measure.

    Attributes
    ----------
    cases
        ``(side, trusted)`` of each run.
    engine_ms
        What the device takes for a frame.
    frames
        In each run, beyond the first few.
    """

    cases: tuple[tuple[int, float], ...] = ((2048, 1.0), (2048, 0.75), (BARE_SIDE, 1.0))
    engine_ms: float = 5.0
    frames: int = 400


QUICK = Keeping(frames=100)
WARM = 16
"""Frames before those measured: memory that was never touched is many times slower."""


def measure_busy(keeping: Keeping, progress: Progress = lambda text, done: None) -> list[BusyRow]:
    """Make a run of each case."""
    rows = []
    for place, (side, trusted) in enumerate(keeping.cases):
        progress(f"{side}² by an engine of {keeping.engine_ms:g} ms", place / len(keeping.cases))
        rows.append(_measure(side, trusted, keeping.engine_ms / 1e3, keeping.frames))
    return rows


def _measure(side: int, trusted: float, seconds: float, frames: int) -> BusyRow:
    engine = DeviceClock(seconds, judgements=[_judgement(side, trusted)])
    timed = _WorkerTime(engine)
    stock = list(_captured(side))
    camera = {"height": side, "width": side, "dtype": "uint16"}
    publisher = Publisher(
        "tcp://127.0.0.1:*",
        frame_bytes=stock[0].pixels.nbytes,
        high_water=1000,
        shared_memory=True,
    )
    with publisher, Replies(OURS_SHARED, publisher.endpoint) as replies:
        replies.wait_for(publisher.endpoint, lambda s: publisher.wait_subscribers(1, s))
        pipeline = Pipeline(engine, (publisher, timed), capacity=QUEUE, throttle=True)
        run = pipeline.start(RunInfo("bench", camera=camera))
        for number in range(WARM + frames):
            at_hand = stock[number % len(stock)]
            pipeline.submit(replace(at_hand, frame=number, captured_ns=time.perf_counter_ns()))
        pipeline.close()
        stats = run.stats().check()
        replies.take_all(stats.published)
    busy = engine.busy
    engine.begin()
    for _ in refocus_all(engine, (stock[n % len(stock)].pixels for n in range(frames))):
        pass
    return BusyRow(
        frame=side,
        trusted=trusted,
        engine_ms=1e3 * seconds,
        busy=busy,
        alone=engine.busy,
        worker_ms=1e3 * timed.seconds / frames,
        under_way=engine.most,
        published=stats.published,
        received=len(replies.received),
    )


def _captured(side: int) -> Iterator[CapturedFrame]:
    rng = np.random.default_rng(0)
    for number in range(QUEUE):
        pixels = rng.integers(100, 4000, (side, side)).astype(np.uint16)
        yield CapturedFrame(pixels, number, datetime.now(UTC).isoformat(timespec="microseconds"), 0)


def _judgement(side: int, trusted: float) -> Judgement:
    rng = np.random.default_rng(0)
    share = np.ones((TILES, TILES), np.float32)
    corner = round(TILES * (1 - trusted) ** 0.5)
    share[:corner, :corner] = 0
    return Judgement(
        verdict="refocused",
        score=0.9,
        distance_um=8.0,
        sigma_um=0.5,
        consistency=1.0,
        domain=0.5,
        share=share,
        tile_px=side / TILES,
        tile_verdicts=np.where(share > 0, "refocused", "unfamiliar"),
        tile_distance_um=rng.uniform(4, 12, (TILES, TILES)).astype(np.float32),
    )


class _WorkerTime:
    """A sink that reads the clock of the thread it is called on: the worker's."""

    def __init__(self, engine: DeviceClock) -> None:
        self.seconds = 0.0
        self._engine = engine
        self._from = 0.0

    def start(self, run: RunInfo) -> None:
        """Begin anew."""

    def put(self, result: FrameResult) -> None:
        """Measure from the last of the first frames."""
        if result.number == WARM - 1:
            self._from = time.thread_time()
            self._engine.begin()
        self.seconds = time.thread_time() - self._from

    def close(self, stats: Stats) -> None:
        """See that every frame is accounted for."""
        stats.check()
