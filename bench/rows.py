"""Which acquisitions the benchmark makes, and what it says of them, row by row.

A case is a size of frame, a way of sequencing, a pace and a load; in each, every way of hooking
has its turn, several times over, so that whatever else the machine does meets them all alike.
Everything in a row is the median of those runs, except ``lost``: that is the most in any of them.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from refocus.bench.calibrated_engine import CalibratedEngine, rounds_per_second
from refocus.bench.ways import WAYS, Acquired, BenchMicroscope, acquire

FPS = {512: 400.0, 2048: 100.0}
"""Rates of paced cameras, by the side of their frames."""


@dataclass(frozen=True)
class Plan:
    """How much to measure.

    Attributes
    ----------
    sides
        Height and width of the frames, pixels; keys of ``FPS``.
    loads
        Time of the engine over that of a frame.
    frames
        Per acquisition.
    run_seconds
        What an acquisition may last: fewer frames, but 30, if they last longer.
    runs, least_runs
        How often to make each acquisition: as often as the time allows.
    brief_runs, brief_seconds
        How often instead where that is soon over: 300 frames of an unpaced camera of 512² take
        50 ms, in which one hiccup of the machine is a tenth of the rate.
    seconds
        What all of it may last.
    """

    sides: tuple[int, ...] = (512, 2048)
    sequencing: tuple[str, ...] = ("hardware", "software")
    paced: tuple[bool, ...] = (False, True)
    loads: tuple[float, ...] = (0.5, 1.0, 2.0)
    frames: int = 300
    run_seconds: float = 3600.0
    runs: int = 5
    least_runs: int = 3
    brief_runs: int = 25
    brief_seconds: float = 8.0
    seconds: float = 720.0

    def frames_at(self, period_s: float) -> int:
        """Give the frames of an acquisition."""
        return max(min(self.frames, 30), min(self.frames, int(self.run_seconds / period_s)))

    def enough(self, made: int, spent_s: float, left_s: float) -> bool:
        """Tell whether to stop after so many rounds, which took ``spent_s`` of a case's time."""
        if made < self.least_runs:
            return False
        round_s = spent_s / made
        if spent_s + round_s < self.brief_seconds:
            return made >= self.brief_runs
        return made >= self.runs or spent_s + round_s > left_s


QUICK = Plan(run_seconds=0.2, least_runs=1, brief_seconds=1.0, seconds=30.0)


@dataclass(frozen=True)
class HookRow:
    """One way of hooking in one case.

    Attributes
    ----------
    name
        A key of ``WAYS``; ``none`` runs the engine beside the acquisition, unattached.
    frame
        Height and width, pixels.
    sequencing
        ``hardware`` or ``software``.
    paced
        Whether the camera keeps to its rate, or gives frames as fast as it can.
    load
        Time of the engine over the camera's period; unpaced, over that of an unhooked frame.
    fps
        Frames per second that the acquisition delivered.
    ratio
        ``fps`` over that of ``none`` in the same round.
    lost
        Raw frames that the acquisition lost, beyond those that it lost with ``none``, too.
    latency_p50_ms, latency_p99_ms
        From the camera's exposure to the refocused frame; of ``none``, the engine's own time.
    callback_p99_us
        What a frame cost the acquisition's thread.
    peak_mb
        The most memory that the process took.
    refocused
        Frames refocused per acquisition.
    busy
        Those, over what the engine does in that time in the row ``none``.
    runs
        How many runs this is the median of.
    """

    name: str
    frame: int
    sequencing: str
    paced: bool
    load: float
    fps: float
    ratio: float
    lost: int
    latency_p50_ms: float
    latency_p99_ms: float
    callback_p99_us: float
    peak_mb: float
    refocused: int = field(metadata={"json": False})
    busy: float = field(metadata={"json": False})
    runs: int = field(metadata={"json": False})


@dataclass(frozen=True)
class Case:
    """What all ways are compared in; the attributes are those of :class:`HookRow`."""

    frame: int
    sequencing: str
    paced: bool
    load: float


Progress = Callable[[str, float], None]
"""Is told what is being measured, and what part of all is done."""


def measure_hooks(plan: Plan, progress: Progress = lambda text, done: None) -> list[HookRow]:
    """Make all the acquisitions of a plan, and give a row for each way in each case."""
    rows: list[HookRow] = []
    speed = rounds_per_second()
    groups = [(paced, side) for paced in plan.paced for side in plan.sides]
    left = len(groups) * len(plan.sequencing) * len(plan.loads)
    cases = left
    ends = time.monotonic() + plan.seconds
    for paced, side in groups:
        progress(f"{side}²: filling the ring", 1 - left / cases)
        with BenchMicroscope(side, FPS[side] if paced else None) as microscope:
            microscope.warm_up(plan.frames)
            for sequencing in plan.sequencing:
                hardware = sequencing == "hardware"
                period_s = _period_s(microscope, hardware, speed) if not paced else 1 / FPS[side]
                for load in plan.loads:
                    case = Case(side, sequencing, paced, load)
                    progress(_say(case), 1 - left / cases)
                    seconds = (ends - time.monotonic()) / left
                    taken = _rounds(
                        plan, case, microscope, period_s=period_s, speed=speed, seconds=seconds
                    )
                    rounds = list(taken)
                    rows += [_row(case, name, rounds) for name in WAYS]
                    left -= 1
    return rows


def as_json(row: Any) -> dict[str, Any]:
    """Give a row as it stands in the file."""
    columns = (
        name
        for name, column in row.__dataclass_fields__.items()
        if column.metadata.get("json", True)
    )
    values = {name: getattr(row, name) for name in columns}
    return {k: round(v, 4) if isinstance(v, float) else v for k, v in values.items()}


def _period_s(microscope: BenchMicroscope, hardware: bool, speed: float) -> float:
    """Measure the time of a frame that costs nothing, for half a second after a first run."""
    idle = CalibratedEngine(0.0, speed)
    fps: list[float] = []
    until = float("inf")
    while time.monotonic() < until:
        fps.append(
            acquire(
                microscope,
                WAYS["callback"],
                idle,
                frames=50 if fps else 20,
                hardware=hardware,
                period_s=1.0,
            ).fps
        )
        until = time.monotonic() + 0.5 if len(fps) == 1 else until
    return 1 / float(np.median(fps[1:]))


def _rounds(
    plan: Plan,
    case: Case,
    microscope: BenchMicroscope,
    *,
    period_s: float,
    speed: float,
    seconds: float,
) -> Iterator[dict[str, Acquired]]:
    """Give every way its turn, beginning with another each time, while there is time."""
    engine = CalibratedEngine(case.load * period_s, speed)
    names = list(WAYS)
    begun, made = time.monotonic(), 0
    while not plan.enough(made, time.monotonic() - begun, seconds):
        turn = made % len(names)
        yield {
            name: acquire(
                microscope,
                WAYS[name],
                engine,
                frames=plan.frames_at(period_s),
                hardware=case.sequencing == "hardware",
                period_s=period_s,
            )
            for name in names[turn:] + names[:turn]
        }
        made += 1


def _row(case: Case, name: str, rounds: Sequence[dict[str, Acquired]]) -> HookRow:
    outcomes = [outcomes[name] for outcomes in rounds]
    alone = [outcomes["none"] for outcomes in rounds]
    pairs = list(zip(outcomes, alone, strict=True))
    times = [o.took_ms if name == "none" else o.latency_ms for o in outcomes]
    return HookRow(
        name=name,
        frame=case.frame,
        sequencing=case.sequencing,
        paced=case.paced,
        load=case.load,
        fps=_median(o.fps for o in outcomes),
        ratio=_median(o.fps / none.fps if none.fps else 0.0 for o, none in pairs),
        lost=max(max(0, o.missing - none.missing) for o, none in pairs),
        latency_p50_ms=_median(_percentile(t, 50) for t in times),
        latency_p99_ms=_median(_percentile(t, 99) for t in times),
        callback_p99_us=_median(_percentile(o.callback_us, 99) for o in outcomes),
        peak_mb=_median(o.peak_mb for o in outcomes),
        refocused=round(_median(o.refocused for o in outcomes)),
        busy=_median(_busy(o, none) for o, none in pairs),
        runs=len(rounds),
    )


def _busy(outcome: Acquired, none: Acquired) -> float:
    """Compare the frames refocused with what the engine does unattached in as much time."""
    delivered = len(outcome.callback_us)
    if not (none.took_ms and delivered and outcome.refocused):
        return 0.0
    alone_ms = float(np.mean(none.took_ms))
    return outcome.refocused / min(delivered, outcome.seconds * 1e3 / alone_ms)


def _percentile(values: Sequence[float], percent: float) -> float:
    return float(np.percentile(values, percent)) if len(values) else 0.0


def _median(values: Iterator[float]) -> float:
    return float(np.median(list(values)))


def _say(case: Case) -> str:
    pace = "paced" if case.paced else "unpaced"
    return f"{case.frame}² {case.sequencing} {pace}, load {case.load:g}"
