"""What became of every frame, in one frozen value.

The invariant of the whole project lives here: a frame that was received is in exactly one state,
``received = published + deferred + dropped + failed + in_flight``, at any moment.
"""

import math
from array import array
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

_log = math.log


@dataclass(frozen=True)
class Timing:
    """How a duration is distributed: median, 99th percentile and maximum; 0.0 without any."""

    p50: float = 0.0
    p99: float = 0.0
    max: float = 0.0


@dataclass(frozen=True)
class Stats:
    """The counts and times of one run, taken at one moment.

    Attributes
    ----------
    run
        Identifier of the run, or ``""`` before the first.
    received
        Frames the acquisition delivered to be refocused.
    published
        Frames handed to every configured sink.
    deferred
        Frames still owed: they are refocused from the saved raw data later.
    dropped
        Frames given up because the queue was full.
    failed
        Frames that the engine, or a sink, could not handle.
    in_flight
        Frames waiting in the queue or in the engine.
    skipped
        Frames left alone on purpose; not part of ``received``.
    queued, capacity
        Frames waiting in the queue, and how many it holds.
    peak
        The most that waited so far.
    alarm
        ``"high"`` once the queue was three quarters full, ``"full"`` once it was full, ``""``
        again once it is less than half full.
    alarms_high, alarms_full
        How often it became so.
    verdicts
        How many published frames got which verdict.
    unprocessed
        Published frames that the processor failed on; they are as captured.
    camera_gaps
        Frames that the camera numbered and that never reached us; not part of ``received``.
    planned
        Frames that the sequence has, ``received`` and ``skipped`` ones together; None where nobody
        knows.
    saved
        Once the run is over: what the ``raw`` and the ``refocused`` files hold of what they were to
        hold, see :class:`refocus.acquisition.pipeline.on_disk.Saved`. Empty where nothing is saved.
    fps
        Published frames per second, from the first capture to the last publication.
    latency_ms
        From capture to the last sink having the result; deferred frames left out.
    engine_ms
        Time in the engine.
    callback_us
        Time the acquisition thread spent with us, per frame, µs.
    """

    run: str = ""
    received: int = 0
    published: int = 0
    deferred: int = 0
    dropped: int = 0
    failed: int = 0
    in_flight: int = 0
    skipped: int = 0
    queued: int = 0
    capacity: int = 0
    peak: int = 0
    alarm: str = ""
    alarms_high: int = 0
    alarms_full: int = 0
    verdicts: Mapping[str, int] = field(default_factory=dict)
    unprocessed: int = 0
    camera_gaps: int = 0
    planned: int | None = None
    saved: Mapping[str, Any] = field(default_factory=dict)
    fps: float = 0.0
    latency_ms: Timing = Timing()
    engine_ms: Timing = Timing()
    callback_us: Timing = Timing()

    def check(self) -> Self:
        """Return the stats themselves, if every frame is accounted for.

        Raises
        ------
        AssertionError
            The counts do not add up: a fault of the pipeline, never of its user.
        """
        states = self.published + self.deferred + self.dropped + self.failed + self.in_flight
        if self.received != states or self.in_flight < self.queued:
            raise AssertionError(f"frames unaccounted for: {self}")
        return self

    def frames(self) -> dict[str, int]:
        """Give the ``frames`` part of a report and of the wire's stats, every count by name."""
        states = ("received", "published", "deferred", "dropped", "failed", "in_flight", "skipped")
        return {state: getattr(self, state) for state in states}

    def report(self) -> dict[str, Any]:
        """Give what is told of them on the wire and in ``report.json``; times rounded to 1 µs."""
        latency = {key: round(value, 3) for key, value in asdict(self.latency_ms).items()}
        return {
            "frames": self.frames(),
            "fps": round(self.fps, 3),
            "latency_ms": latency,
            "engine_ms": {
                "p50": round(self.engine_ms.p50, 3),
                "p99": round(self.engine_ms.p99, 3),
            },
        }


class Durations:
    """Percentiles of a run of any length in constant memory.

    A histogram with bins 1 % wide, from 1e-3 to 1e7 in whatever unit is added, so that a
    percentile is right within 1 %; the maximum is exact. One thread adds; any may read.
    """

    _LOWEST = 1e-3
    _BINS_PER_E = 1.0 / math.log(1.01)
    _FIRST = math.log(_LOWEST) * _BINS_PER_E
    _BINS = int(math.log(1e10) * _BINS_PER_E) + 1

    def __init__(self) -> None:
        self._counts = array("q", bytes(8 * self._BINS))
        self._max = 0.0

    def add(self, value: float) -> None:
        """Count one duration."""
        place = int(math.log(value) * self._BINS_PER_E - self._FIRST) if value > self._LOWEST else 0
        self._counts[place if place < self._BINS else -1] += 1
        self._max = max(self._max, value)

    def timing(self) -> Timing:
        """Summarise what was added so far."""
        copied = self._counts.tobytes()  # one step under the GIL: a consistent picture
        seen = np.cumsum(np.frombuffer(copied, np.int64))
        return Timing(self._percentile(seen, 0.5), self._percentile(seen, 0.99), self._max)

    def _percentile(self, seen: NDArray[np.int64], fraction: float) -> float:
        if not seen[-1]:
            return 0.0
        rank = max(1, math.ceil(fraction * int(seen[-1])))
        place = int(np.searchsorted(seen, rank))
        middle = self._LOWEST * math.exp((place + 0.5) / self._BINS_PER_E)
        return min(middle, self._max)
