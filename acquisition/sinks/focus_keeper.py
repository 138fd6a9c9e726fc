"""Keeping a time-lapse in focus: the judged distance asks for stage moves, within limits.

A frame tells how far from focus it is, and how likely it is to be on one side rather than the
other, but not which way the stage has to go from there: that depends on the objective, and the next
frame, after a move, tells. So where focus may be is kept as a distribution, together with which way
is which, and the stage goes to where focus most likely is:
``FocusBelief`` does the arithmetic, ``FocusKeeper`` listens to results and changes the events that
are still to come. Nothing moves unless a run is asked to act (``refocus-live run --act``).
"""

import logging
import threading
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import useq
from pydantic import PrivateAttr
from scipy import ndimage

from refocus.acquisition.pipeline.frame import FrameResult
from refocus.acquisition.pipeline.sink import RunInfo
from refocus.acquisition.pipeline.stats import Stats
from refocus.configs import RefocusError

log = logging.getLogger("refocus.focus")

STEP_UM = 0.25
"""Resolution of the belief."""
DEADBAND_UM = 0.5
"""Nearer to focus than this, the stage is left where it is."""
DRIFT_UM_PER_MIN = 12.0
"""The fastest drift to expect, either way."""
SPEEDS = 17
OUTLIERS = 0.02
"""Fraction of the distances that may be anything."""
SIDE_UM = 2.0
"""From so far the side of focus counts in full."""
SURE = 0.9
"""The most that the side of one frame is believed: neighbours in time err alike."""
KNOWING = ("in-focus", "refocused")
"""Verdicts whose distance is believed."""


class FocusBelief:
    """Where focus is, as an offset of the stage from its plan, and how fast it drifts.

    A Bayes filter on a grid (Thrun, Burgard & Fox, Probabilistic Robotics, ch. 4): of offsets, of
    speeds of drift, and of the two ways that the sides of focus may lie. A measured distance speaks
    for both sides alike; what drift there was tells them apart, and so does the side that a frame
    seems to be on, once a move has shown which way that is.

    Parameters
    ----------
    limit_um
        Focus is looked for, and the stage moved, within this distance from the plan, µm.
    drift_um_per_min
        The fastest drift to expect, µm/min.
    upward
        How likely the positive side is that of larger stage positions.
    """

    def __init__(
        self, limit_um: float, drift_um_per_min: float = DRIFT_UM_PER_MIN, upward: float = 0.5
    ) -> None:
        self.limit_um = limit_um
        half = round((limit_um + 10.0) / STEP_UM)
        self._offsets = np.arange(-half, half + 1) * STEP_UM
        self._speeds = np.linspace(-1, 1, SPEEDS) * drift_um_per_min / 60  # µm/s
        # before anything is known: near the plan rather than far, and slow rather than fast
        near = _normal(self._offsets, 0.5 * limit_um + 2.0)
        slow = _normal(np.linspace(-1, 1, SPEEDS), 0.4)
        self._belief = np.array([upward, 1 - upward])[:, None, None] * np.outer(slow, near)
        self._belief /= self._belief.sum()

    @property
    def upward(self) -> float:
        """How likely the positive side is that of larger stage positions."""
        return float(self._belief[0].sum())

    def wander(self, seconds: float) -> None:
        """Let focus have drifted for a while."""
        for number, speed in enumerate(self._speeds):
            came_from = self._offsets - speed * seconds
            for row in self._belief[:, number]:
                row[:] = np.interp(came_from, self._offsets, row, 0.0, 0.0)
        jitter = 0.25 * abs(self._speeds[-1]) * seconds / STEP_UM
        self._belief = ndimage.gaussian_filter(self._belief, (0, 0.15, jitter), mode="nearest")
        self._belief /= self._belief.sum()

    def observe(
        self, offset_um: float, distance_um: float, sigma_um: float, positive_side: float = 0.5
    ) -> None:
        """Take in that a frame at ``offset_um`` was so far from focus, and so likely positive."""
        apart = np.abs(self._offsets - offset_um) - distance_um
        self._belief *= _normal(apart, max(sigma_um, 0.5)) + OUTLIERS
        above = np.clip((offset_um - self._offsets) / SIDE_UM, -1, 1)
        lean = np.clip(positive_side, 1 - SURE, SURE) - 0.5
        self._belief *= 0.5 + lean * np.stack([above, -above])[:, None]
        self._belief /= self._belief.sum()

    def best(self, offset_um: float) -> float:
        """Give where the stage should be, being at ``offset_um``."""
        where = ndimage.gaussian_filter1d(self._belief.sum((0, 1)), 0.5 / STEP_UM)
        target = float(self._offsets[int(np.argmax(where))])
        if abs(target - offset_um) < DEADBAND_UM:
            return offset_um
        return float(np.clip(target, -self.limit_um, self.limit_um))


def _normal(x: Any, width: float) -> Any:
    return np.exp(-0.5 * (x / width) ** 2)


class FocusKeeper:
    """A sink that keeps the events still to come in focus.

    Parameters
    ----------
    sequence
        What is to be acquired; its frames must be refocused one plane at a time.
    stage_um
        Where the stage stands, for events that do not say, µm.
    limit_um
        Farthest that the stage is moved from its plan, µm.
    drift_um_per_min
        The fastest drift to expect, µm/min.

    Raises
    ------
    RefocusError
        The sequence has z-stacks, which are deliberate.
    """

    def __init__(
        self,
        sequence: useq.MDASequence,
        stage_um: float,
        limit_um: float,
        drift_um_per_min: float = DRIFT_UM_PER_MIN,
    ) -> None:
        if "z" in sequence.used_axes:
            raise RefocusError("--act: the sequence takes z-stacks, which are left as planned")
        self.moves = 0
        self._stage_um = stage_um
        self._make_belief = partial(FocusBelief, limit_um, drift_um_per_min)
        self._upward = 0.5
        # of each position, whose plan has an error of its own
        self._beliefs: dict[int, FocusBelief] = {}
        self._seen_ns: dict[int, int] = {}
        self._lock = threading.Lock()
        self._offset_um: dict[int, float] = {}
        self._planned: dict[tuple[tuple[str, int], ...], float] = {}
        self.sequence = _Kept(**sequence.model_dump())
        self.sequence.keep(self)

    def adjusted(self, event: useq.MDAEvent) -> useq.MDAEvent:
        """Put an event where focus is believed to be; called as it is about to be acquired."""
        planned = self._stage_um if event.z_pos is None else event.z_pos
        with self._lock:
            self._planned[_key(event.index)] = planned
            offset = self._offset_um.get(event.index.get("p", 0), 0.0)
            return event.model_copy(update={"z_pos": planned + offset})

    def start(self, run: RunInfo) -> None:
        """Nothing is known of a new run but its plan."""

    def put(self, result: FrameResult) -> None:
        """Learn from a frame, and move if it asks for it."""
        judged, frame = result.judgement, result.captured
        planned = self._planned.get(_key(frame.index))
        if planned is None or "z" not in frame.position_um:
            return
        if judged is None or judged.distance_um is None or judged.verdict not in KNOWING:
            return
        place = frame.index.get("p", 0)
        belief = self._beliefs.setdefault(place, self._make_belief(self._upward))
        belief.wander((frame.captured_ns - self._seen_ns.get(place, frame.captured_ns)) / 1e9)
        self._seen_ns[place] = frame.captured_ns
        there = frame.position_um["z"] - planned
        side = 0.5 if judged.positive_side is None else judged.positive_side
        belief.observe(there, judged.distance_um, judged.sigma_um or 0.0, side)
        self._upward = belief.upward
        with self._lock:
            before = self._offset_um.get(place, 0.0)
            wanted = self._offset_um[place] = belief.best(before)
        moved = wanted - before
        if moved:
            self.moves += 1
            log.info(
                "frame %d is %.1f ± %.1f µm from focus: the stage goes by %+.2f µm, "
                "to %+.2f µm of its plan",
                frame.frame,
                judged.distance_um,
                judged.sigma_um or 0.0,
                moved,
                wanted,
            )

    def close(self, stats: Stats) -> None:
        """Say how often the stage was moved."""
        log.info("%d moves kept %d frames in focus", self.moves, stats.published)


class _Kept(useq.MDASequence):
    """The same sequence, whose events are adjusted at the moment they are asked for."""

    _keeper: FocusKeeper | None = PrivateAttr(default=None)

    def keep(self, keeper: FocusKeeper) -> None:
        """Ask this keeper."""
        self._keeper = keeper

    def __iter__(self) -> Iterator[useq.MDAEvent]:  # type: ignore[override]
        for event in super().__iter__():
            yield self._keeper.adjusted(event) if self._keeper else event


def _key(index: Any) -> tuple[tuple[str, int], ...]:
    return tuple(sorted((str(axis), int(place)) for axis, place in index.items()))
