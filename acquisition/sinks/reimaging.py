"""Refocus or take again: a sequence that what the stream knows adds frames to, field by field.

``Reimaging`` is the iterable of events that an acquisition runs, and a sink of the pipeline that
judges its frames: after each frame it waits for the verdict, and adds an event where the field is
to be taken again. What it decided travels with the frame.
"""

import logging
import queue
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import useq

from refocus.acquisition.pipeline.frame import CapturedFrame, FrameResult
from refocus.acquisition.pipeline.plan import ADDED
from refocus.acquisition.pipeline.sink import RunInfo
from refocus.acquisition.pipeline.stats import Stats
from refocus.acquisition.sinks.focus_belief import FocusBelief
from refocus.acquisition.sinks.focus_keeper import (
    APART_UM,
    ASTRAY_UM,
    event_key,
    has_autofocus,
    require_stage,
    unknown,
)
from refocus.acquisition.sinks.focus_steps import Budget, Decision, FieldSteps
from refocus.configs import RefocusError
from refocus.engine.trust.judgement import Judgement

if TYPE_CHECKING:
    from pymmcore_plus import CMMCorePlus

log = logging.getLogger("refocus.focus")

Place = tuple[int, int]
"""Numbers of the position, and of the tile in its grid."""


@dataclass
class _Asked:
    """An event whose frame is waited for."""

    event: useq.MDAEvent
    planned_um: float
    put_um: float
    until: float
    autofocused: bool = False


@dataclass(frozen=True)
class _Seen:
    """The frame that was taken of a place last time."""

    distance_um: float
    sigma_um: float
    z_um: float


class Reimaging:
    """The events of a sequence, and those that are added: an iterator, and a sink.

    Parameters
    ----------
    sequence
        What is planned. Z-stacks of single positions are left as planned; a hardware autofocus of
        it that ended farther from focus than the stage was before is taken back.
    core
        Says where the focus stage stands.
    seconds, frames, limit_um, near_um
        What a field may cost beyond its plan, see
        :class:`~refocus.acquisition.sinks.focus_steps.Budget`.

    Attributes
    ----------
    planned
        The sequence.
    counts
        How often what was decided.

    Raises
    ------
    RefocusError
        There is no focus stage, its continuous focus is on, or the sequence takes z-stacks.
    """

    def __init__(
        self,
        sequence: useq.MDASequence,
        core: "CMMCorePlus",
        *,
        seconds: float = 0.5,
        frames: int = 2,
        limit_um: float = 10.0,
        near_um: float = 4.0,
    ) -> None:
        require_stage(core, "--reimage")
        if "z" in sequence.used_axes:
            raise RefocusError(
                "--reimage: the sequence takes z-stacks, which show every distance themselves; "
                "leave out --reimage, or the z plan"
            )
        self.planned = sequence
        self.counts: Counter[str] = Counter()
        self._budget = Budget(seconds, frames, limit_um, near_um)
        self._carries = not has_autofocus(sequence)
        self._stage_um = core.getZPosition()
        self._latest, self._around_um = FocusBelief(limit_um), 0.0
        self._places: dict[Place, FieldSteps] = {}
        self._seen: dict[Place, _Seen] = {}
        self._asked: _Asked | None = None
        self._decided: queue.SimpleQueue[Decision] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._warn = cache(log.warning)  # each thing once
        self._events = self._feed()

    # -- on the acquisition thread

    def __iter__(self) -> Iterator[useq.MDAEvent]:
        return self

    def __next__(self) -> useq.MDAEvent:
        return next(self._events)

    def _feed(self) -> Iterator[useq.MDAEvent]:
        autofocused: set[int] = set()
        for event in self.planned:
            position = event.index.get("p", 0)
            if isinstance(event.action, useq.HardwareAutofocus):
                autofocused.add(position)
            if "z" in event.index or not isinstance(event.action, useq.AcquireImage | None):
                yield event
                continue
            yield from self._visit(event, position in autofocused)
            autofocused.discard(position)

    def _visit(self, event: useq.MDAEvent, autofocused: bool) -> Iterator[useq.MDAEvent]:
        """Give a planned event, and those that are added to it."""
        steps = self._steps(_place(event.index))
        steps.begin()
        planned = self._stage_um if event.z_pos is None else event.z_pos
        offset = steps.offset_um if self._carries else 0.0
        until, added = 0.0, event
        while True:
            now = added.model_copy(update={"z_pos": planned + offset})
            asked = _Asked(now, planned, planned + offset, until, autofocused and not until)
            with self._lock:
                self._asked = asked
            yield now
            with self._lock:  # time begins once the planned frame is there
                until = asked.until = until or time.monotonic() + self._budget.seconds
            found = self._wait(until)
            if found is None:
                steps.give_up()
            if found is None or found.action != "again":
                return
            added, offset = _added(event, found), found.offset_um

    def _wait(self, until: float) -> Decision | None:
        try:
            return self._decided.get(timeout=max(0.0, until - time.monotonic()))
        except queue.Empty:
            with self._lock:
                self._asked = None
                if not self._decided.empty():  # it came just now
                    return self._decided.get()
            self._warn(f"no verdict within {self._budget.seconds:g} s: the frame is left")
            self.counts["late"] += 1
            return None

    def _steps(self, place: Place) -> FieldSteps:
        if place not in self._places:
            around = self._around_um if self._carries else 0.0
            belief = self._latest.elsewhere(around)
            self._places[place] = FieldSteps(self._budget, belief, around)
        return self._places[place]

    # -- on the worker's thread

    def decide(self, frame: CapturedFrame, judged: Judgement | None) -> dict[str, Any] | None:
        """Decide about a frame; None for one that nobody waits for."""
        with self._lock:
            asked = self._asked
            if asked is None or event_key(frame.index) != event_key(asked.event.index):
                return None
            self._asked = None
            decision = self._decision(frame, judged, asked)
            self._decided.put(decision)
        self.counts[decision.action] += 1
        log.log(
            logging.INFO if decision.action == "again" else logging.DEBUG,
            "frame %d: %s: %s",
            frame.frame,
            decision.action,
            decision.why,
        )
        return decision.told()

    def _decision(self, frame: CapturedFrame, judged: Judgement | None, asked: _Asked) -> Decision:
        place = _place(frame.index)
        steps, offset = self._places[place], asked.put_um - asked.planned_um
        if why := self._why_not(frame, judged, asked):
            self._warn(f"--reimage: a frame is left as it is: {why}")
            return Decision("leave", why, steps.attempt, frame.frame, offset)
        assert judged is not None
        z_um = frame.position_um["z"]
        if (back := self._veto(place, frame, judged, asked)) is not None:
            return back
        left_s = asked.until - time.monotonic() if asked.until else self._budget.seconds
        found = steps.decide(frame.frame, frame.captured_ns, offset, judged, left_s)
        self._latest = steps.belief
        if steps.confirmed and found.action != "again":
            self._around_um = steps.offset_um
        if found.take == frame.frame and unknown(judged) is None:
            self._seen[place] = _Seen(judged.distance_um or 0.0, judged.sigma_um or 0.0, z_um)
        return found

    def _why_not(self, frame: CapturedFrame, judged: Judgement | None, asked: _Asked) -> str:
        """Say why nothing can be decided about a frame; empty where it can."""
        if judged is None:
            return "it is not refocused, so nobody judges it"
        if "z" not in frame.position_um:
            return "nobody says where the focus stage stands"
        if self._carries and abs(frame.position_um["z"] - asked.put_um) > ASTRAY_UM:
            return "the focus stage is not where it was sent: something else moves it"
        return ""

    def _veto(
        self, place: Place, frame: CapturedFrame, judged: Judgement, asked: _Asked
    ) -> Decision | None:
        """Go back to where the stage was, if the hardware's autofocus has ended blurrier."""
        before = self._seen.get(place)
        if not asked.autofocused or before is None or unknown(judged) is not None:
            return None
        distance, sigma = judged.distance_um or 0.0, judged.sigma_um or 0.0
        if distance - before.distance_um <= max(APART_UM, before.sigma_um + sigma):
            return None
        self.counts["vetoed"] += 1
        why = (
            f"the autofocus ended {distance:.1f} ± {sigma:.1f} µm from focus, where it was "
            f"{before.distance_um:.1f} before: taken again where the stage was"
        )
        offset = asked.put_um - asked.planned_um + before.z_um - frame.position_um["z"]
        return self._places[place].back(frame.frame, offset, why)

    def start(self, run: RunInfo) -> None:
        """Nothing is known of a new run but its plan."""

    def put(self, result: FrameResult) -> None:
        """Do nothing: what there is to do was done when it was decided."""

    def close(self, stats: Stats) -> None:
        """Say what was decided."""
        told = ", ".join(f"{count} {what}" for what, count in self.counts.most_common())
        log.info("refocus or take again: %s", told or "no frame was judged")


def _place(index: Any) -> Place:
    return int(index.get("p", 0)), int(index.get("g", 0))


def _added(event: useq.MDAEvent, decision: Decision) -> useq.MDAEvent:
    """Say of an event that it was added, and why: with the raw frame, too."""
    said = {"attempt": decision.attempt + 1, "why": decision.why}
    return event.model_copy(
        update={"metadata": {**event.metadata, ADDED: said}, "reset_event_timer": False}
    )
