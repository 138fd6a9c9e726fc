"""What is done about a frame, by how far from focus it is said to be.

It is taken as it is, or refocused, or taken again where focus is believed to be, for as long as
time and light last. All of it is arithmetic: who moves the stage is in ``reimaging``.
"""

from dataclasses import dataclass
from typing import Any, Literal

from refocus.acquisition.sinks.focus_belief import MOVED_UM, SMALL, FocusBelief
from refocus.acquisition.sinks.focus_keeper import KNOWING, STANDS_STILL, unknown
from refocus.engine.trust.judgement import Judgement

Action = Literal["accept", "refocus", "again", "leave"]

UNSURE_UM = 4.0
"""The stage goes no farther for a frame whose distance is no knowledge."""
ENOUGH = 0.5
"""A frame of which less is refocused is not good enough."""
TOLD_APART = 0.75
"""From so likely, it is known which side of focus is which."""


@dataclass(frozen=True)
class Budget:
    """What a field may cost beyond its plan.

    Attributes
    ----------
    seconds
        Time to wait for verdicts and to take frames again, s.
    frames
        Light: how many further frames, each of the planned exposure.
    limit_um
        How far the stage may go from its plan, µm.
    near_um
        Up to this distance a frame that is trusted will do, and is not taken again, µm.
    """

    seconds: float = 0.5
    frames: int = 2
    limit_um: float = 10.0
    near_um: float = 4.0


@dataclass(frozen=True)
class Decision:
    """What is done about a frame, and why.

    Attributes
    ----------
    action
        ``accept``: in focus, or nobody can tell that it is not; its captured pixels will do.
        ``refocus``: its refocused ones will. ``again``: the field is taken again. ``leave``: it is
        not good, and nothing more can be done.
    why
        In words.
    attempt
        0 for the planned frame, 1 for the first that was added.
    take
        Which of the frames of this field so far is the best, a number of capture.
    offset_um
        Where the stage is to be for the next one, from its plan, µm.
    """

    action: Action
    why: str
    attempt: int
    take: int
    offset_um: float

    def told(self) -> dict[str, Any]:
        """Give what is said of it on the wire and beside the data."""
        return {**vars(self), "offset_um": round(self.offset_um, 2)}


class FieldSteps:
    """The frames of one place, and where the stage goes for them.

    Parameters
    ----------
    budget
        Of each visit.
    belief
        Where focus is here.
    offset_um
        Where the first frame is taken, from its plan, µm.
    """

    def __init__(self, budget: Budget, belief: FocusBelief, offset_um: float = 0.0) -> None:
        self.belief = belief
        self.offset_um = offset_um
        self.confirmed = False
        self._budget = budget
        self._seen_ns = 0
        self.begin()

    def begin(self) -> None:
        """Begin a visit: a planned frame is about to be taken."""
        self.attempt = 0
        self._best: tuple[float, float, int] | None = None

    def decide(
        self, frame: int, captured_ns: int, there_um: float, judged: Judgement, left_s: float
    ) -> Decision:
        """Say what to do about a frame at ``there_um`` of its plan, with so much time left, s."""
        attempt, self.attempt = self.attempt, self.attempt + 1
        if judged.distance_um is None or judged.sigma_um is None:
            _, why = unknown(judged) or ("", "nobody judged it")
            return self._end("leave", why, attempt, frame)
        distance, sigma = judged.distance_um, judged.sigma_um
        self._learn(captured_ns, there_um, judged)
        worse = self._best is not None and distance > self._best[0]
        if self._best is None or not worse:
            self._best = distance, there_um, frame
        told = f"{distance:.1f} ± {sigma:.1f} µm from focus"
        guess = unknown(judged)
        near = judged.verdict in KNOWING and distance <= self._budget.near_um and not worse
        if judged.verdict == "in-focus" or (near and sigma > SMALL * distance):
            return self._good("accept", told, attempt, frame, there_um)
        if near and judged.taken >= ENOUGH:
            return self._good("refocus", told, attempt, frame, there_um)
        target = self.belief.best(there_um)
        if guess is not None:  # never far, for what is not known
            target = there_um + max(-UNSURE_UM, min(UNSURE_UM, target - there_um))
        if why_not := self._why_not(attempt, left_s, target - there_um):
            return self._end("leave", f"{told}; {why_not}", attempt, frame)
        self.offset_um = target
        again = f"{told}: taken again {target - there_um:+.1f} µm from there"
        return Decision("again", again, attempt, self._best[2], target)

    def give_up(self) -> None:
        """Go back to the best of what was seen, for there is no verdict on the last frame."""
        if self._best is not None:
            self.offset_um = self._best[1]

    def back(self, frame: int, offset_um: float, why: str) -> Decision:
        """Take a frame again where the stage was before, for somebody else moved it away."""
        attempt, self.attempt = self.attempt, self.attempt + 1
        return Decision("again", why, attempt, frame, offset_um)

    def _learn(self, captured_ns: int, there_um: float, judged: Judgement) -> None:
        if self._seen_ns:
            self.belief.wander((captured_ns - self._seen_ns) / 1e9)
        self._seen_ns = captured_ns
        side = 0.5 if judged.positive_side is None else judged.positive_side
        assert judged.distance_um is not None
        assert judged.sigma_um is not None
        self.belief.observe(there_um, judged.distance_um, judged.sigma_um, side)

    def _good(
        self, action: Action, told: str, attempt: int, frame: int, there_um: float
    ) -> Decision:
        """Take a frame, and let the next begin where focus is, if it is known that this is not."""
        self.confirmed, self.offset_um = not self.belief.is_still, there_um
        sides = max(self.belief.upward, 1 - self.belief.upward)
        if action == "refocus" and sides > TOLD_APART:
            self.offset_um = self.belief.best(there_um)
        return Decision(action, told, attempt, frame, self.offset_um)

    def _why_not(self, attempt: int, left_s: float, step_um: float) -> str:
        """Say why no further frame is taken; empty where one is."""
        if self.belief.is_still:
            return STANDS_STILL
        if attempt >= self._budget.frames:
            return f"the light for {self._budget.frames} further frames is spent"
        if left_s <= 0:
            return f"the {self._budget.seconds:g} s are over"
        if abs(step_um) < MOVED_UM:
            return "no better place is known within the limit"
        return ""

    def _end(self, action: Action, why: str, attempt: int, frame: int) -> Decision:
        """Take the best of what there is, and go back to where that was."""
        self.give_up()
        if self._best is not None:
            frame = self._best[2]
        if self.belief.is_still:
            self.offset_um = self.belief.best(self.offset_um)
        return Decision(action, why, attempt, frame, self.offset_um)
