"""Keeping a time-lapse in focus: the judged distance asks for stage moves, within limits.

``FocusBelief`` does the arithmetic, ``FocusKeeper`` listens to results and changes the events that
are still to come. Nothing moves unless a run is asked to act (``refocus-live run --act``), and then
on knowledge only; why it did not move is logged, each reason once a run.
"""

import logging
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import useq
from pydantic import PrivateAttr

from refocus.acquisition.pipeline.frame import FrameResult
from refocus.acquisition.pipeline.sink import RunInfo
from refocus.acquisition.pipeline.stats import Stats
from refocus.acquisition.sinks.focus_belief import DRIFT_UM_PER_MIN, SMALL, STEP_UM, FocusBelief
from refocus.configs import RefocusError
from refocus.engine.trust.judgement import Judgement

if TYPE_CHECKING:
    from pymmcore_plus import CMMCorePlus

log = logging.getLogger("refocus.focus")

KNOWING = ("in-focus", "refocused")
"""Verdicts whose distance is believed."""
NEAR_UM = 2.0
"""A distance whose deviation is no larger is learned from, if not moved for."""
AGREEING = 3
"""So many frames of a position in a row must be where they were expected. Neighbours in time err
alike, so more would not be surer, and each is a frame out of focus."""
APART_UM = 1.0
"""A distance is as expected within this, or within its standard deviation."""
STANDS_STILL = (
    "the distance stays the same wherever the stage is, so it is of something that the stage does "
    "not move, such as dust on the camera"
)
ASTRAY_UM = 1.0
"""If the stage stands farther from where it was asked to go, somebody else moves it."""


@dataclass
class _Place:
    """What is known at one position, whose plan has an error of its own."""

    belief: FocusBelief
    seen_ns: int
    agreeing: int = 0

    def take(self, captured_ns: int, there_um: float, judged: Judgement) -> None:
        """Learn from a frame at ``there_um`` of the plan."""
        distance, sigma = judged.distance_um or 0.0, judged.sigma_um or 0.0
        self.belief.wander((captured_ns - self.seen_ns) / 1e9)
        self.seen_ns = captured_ns
        agrees = self.belief.expects(there_um, distance, max(APART_UM, sigma))
        self.agreeing = self.agreeing + 1 if agrees and self.agreeing else 1
        side = 0.5 if judged.positive_side is None else judged.positive_side
        self.belief.observe(there_um, distance, sigma, side)


class FocusKeeper:
    """A sink that keeps the events still to come in focus.

    Parameters
    ----------
    sequence
        What is to be acquired; its frames must be refocused one plane at a time. Stacks of
        sub-sequences are left as planned.
    stage_um
        Where the stage stands, for events that do not say, µm.
    limit_um
        Farthest that the stage is moved from its plan, µm.
    drift_um_per_min
        The fastest drift to expect, µm/min.

    Raises
    ------
    RefocusError
        The sequence has z-stacks, which are deliberate, or an autofocus, which moves the stage.
    """

    def __init__(
        self,
        sequence: useq.MDASequence,
        stage_um: float,
        limit_um: float,
        drift_um_per_min: float = DRIFT_UM_PER_MIN,
    ) -> None:
        require_free_stage(sequence)
        self.moves = 0
        self.unmoved: Counter[str] = Counter()
        self._stage_um = stage_um
        self._latest = FocusBelief(limit_um, drift_um_per_min)
        self._places: dict[int, _Place] = {}
        self._lock = threading.Lock()
        self._offset_um: dict[int, float] = {}
        # of each event: where it was planned, and where it was put
        self._asked: dict[tuple[tuple[str, int], ...], tuple[float, float]] = {}
        self.sequence = _Kept(**sequence.model_dump())
        self.sequence.keep(self)

    def adjusted(self, event: useq.MDAEvent) -> useq.MDAEvent:
        """Put an event where focus is believed to be; called as it is about to be acquired."""
        if "z" in event.index:
            self._leave("stack", "the planes of a stack are left as planned")
            return event
        planned = self._stage_um if event.z_pos is None else event.z_pos
        with self._lock:
            put = planned + self._offset_um.get(event.index.get("p", 0), 0.0)
            self._asked[event_key(event.index)] = planned, put
        return event.model_copy(update={"z_pos": put})

    def start(self, run: RunInfo) -> None:
        """Nothing is known of a new run but its plan."""

    def put(self, result: FrameResult) -> None:
        """Learn from a frame, and move if it asks for it."""
        frame, judged = result.captured, result.judgement
        asked = self._asked.get(event_key(frame.index))
        if asked is None or judged is None:
            return
        planned, put = asked
        if why := unknown(judged):
            self._leave(*why)
        elif "z" not in frame.position_um:
            self._leave("place", "nobody says where the focus stage stands")
        elif abs(frame.position_um["z"] - put) > ASTRAY_UM:
            self._leave(
                "astray",
                f"the focus stage stands at {frame.position_um['z']:.2f} µm, and was sent to "
                f"{put:.2f}: something else moves it, or it cannot go there",
            )
        else:
            self._learn(result, judged, frame.position_um["z"] - planned, put - planned)

    def _learn(
        self, result: FrameResult, judged: Judgement, there_um: float, put_um: float
    ) -> None:
        frame, number = result.captured, result.captured.index.get("p", 0)
        if number not in self._places:
            self._places[number] = _Place(self._latest.elsewhere(), frame.captured_ns)
        place = self._places[number]
        place.take(frame.captured_ns, there_um, judged)
        self._latest = place.belief
        if place.belief.is_still:
            self._leave("still", STANDS_STILL)
        with self._lock:
            before = self._offset_um.get(number, 0.0)
            wanted = place.belief.best(before)
            # a frame from before the last move does not know what came of it
            if wanted == before or abs(put_um - before) > STEP_UM / 2:
                return
            distance, sigma = judged.distance_um or 0.0, judged.sigma_um or 0.0
            told = f"{distance:.1f} ± {sigma:.1f} µm from focus"
            back = place.belief.is_still
            if sigma > SMALL * distance and not back:
                self._leave("near", f"{told} is not far enough to be sure of", logging.INFO)
                return
            if place.agreeing < AGREEING and not back:
                self._leave("agree", f"{told} is not yet said by {AGREEING} frames", logging.INFO)
                return
            self._offset_um[number] = wanted
        self.moves += 1
        log.info(
            "frame %d is %s: the stage goes by %+.2f µm, to %+.2f µm of its plan",
            frame.frame,
            told,
            wanted - before,
            wanted,
        )

    def close(self, stats: Stats) -> None:
        """Say how often the stage was moved, and how often not."""
        log.info("%d moves kept %d frames in focus", self.moves, stats.published)
        if self.unmoved:
            told = ", ".join(f"{count} {why}" for why, count in self.unmoved.most_common())
            log.info("frames that the stage did not move for: %s", told)

    def _leave(self, why: str, words: str, level: int = logging.WARNING) -> None:
        """Leave the stage where it is, and say why, once."""
        self.unmoved[why] += 1
        if self.unmoved[why] == 1:
            log.log(level, "--act: the stage is not moved: %s", words)


def require_stage(core: "CMMCorePlus", option: str) -> None:
    """Refuse a core that has no focus stage, or one that its continuous focus moves.

    Raises
    ------
    RefocusError
        It is so; the message names the option that asks for it.
    """
    if not core.getFocusDevice():
        raise RefocusError(f"{option}: there is no focus stage; name one in the configuration")
    device = core.getAutoFocusDevice()
    if device and core.isContinuousFocusEnabled():
        raise RefocusError(
            f"{option}: the continuous focus {device} is on, and the two would move the stage "
            f"against each other; switch it off, or leave out {option}"
        )


def require_free_stage(sequence: useq.MDASequence) -> None:
    """Refuse a sequence whose focus is not to be moved by what its frames say.

    Raises
    ------
    RefocusError
        It takes z-stacks, at all positions, or has an autofocus, at any.
    """
    inner = [p.sequence for p in sequence.stage_positions]
    if "z" in sequence.used_axes or (inner and all(s and "z" in s.used_axes for s in inner)):
        raise RefocusError(
            "--act: the sequence takes z-stacks, which are left as planned; leave out --act, or "
            "the z plan"
        )
    if has_autofocus(sequence):
        raise RefocusError(
            "--act: the sequence has an autofocus_plan, and the two would move the stage against "
            "each other; leave out one of them"
        )
    for deeper in inner:
        if deeper and deeper.stage_positions:
            require_free_stage(deeper)


def has_autofocus(sequence: useq.MDASequence) -> bool:
    """Whether a sequence, or that of a position, has a hardware autofocus."""
    inner = [p.sequence for p in sequence.stage_positions]
    return any(s.autofocus_plan for s in (sequence, *inner) if s)


def unknown(judged: Judgement) -> tuple[str, str] | None:
    """Say why the distance of a frame is no knowledge; None where it is."""
    if judged.verdict == "blank":
        return "blank", "a frame shows nothing but noise, which has no distance from focus"
    if judged.verdict not in KNOWING or judged.distance_um is None or judged.sigma_um is None:
        return judged.verdict, f"a frame is {judged.verdict}, so its distance is not believed"
    if judged.sigma_um > max(NEAR_UM, SMALL * judged.distance_um):
        told = f"{judged.distance_um:.1f} ± {judged.sigma_um:.1f} µm"
        return "unsure", f"{told} from focus is a guess, and no knowledge"
    return None


class _Kept(useq.MDASequence):
    """The same sequence, whose events are adjusted at the moment they are asked for."""

    _keeper: FocusKeeper | None = PrivateAttr(default=None)

    def keep(self, keeper: FocusKeeper) -> None:
        """Ask this keeper."""
        self._keeper = keeper

    def __iter__(self) -> Iterator[useq.MDAEvent]:  # type: ignore[override]
        for event in super().__iter__():
            yield self._keeper.adjusted(event) if self._keeper else event


def event_key(index: Any) -> tuple[tuple[str, int], ...]:
    """Give the useq index of an event or a frame, so that one is found by the other."""
    return tuple(sorted((str(axis), int(place)) for axis, place in index.items()))
