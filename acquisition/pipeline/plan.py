"""What a sequence has planned, position by position and channel by channel, against what came.

The acquisition thread counts each frame as it comes, whatever becomes of it later. What was planned
follows from the sizes of a regular sequence; the events of any other are counted on a thread of
their own, while frames come already. Of an iterable of events nobody knows how many there will be.
"""

import logging
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass
from math import prod
from typing import Any

from useq import AcquireImage, MDAEvent, MDASequence

logger = logging.getLogger("refocus.acquisition")

ADDED = "reimage"
"""Key in the metadata of an event that was added to the sequence while it ran, with the reason."""

Where = tuple[int, str]
"""Number of the position, and name of the channel."""

MOST_EVENTS = 1_000_000
"""An irregular sequence with more is taken to have no end."""


NAMED = 3
"""Places at which frames are missing that a line names; the report has them all."""


@dataclass(frozen=True)
class Short:
    """Where frames are missing.

    Attributes
    ----------
    position
        Its name, else its number; empty where there are no positions.
    channel
        Its name, or empty.
    planned, received
        Frames.
    """

    position: str
    channel: str
    planned: int
    received: int

    def __str__(self) -> str:
        """Say it as part of a sentence."""
        where = ", ".join(
            f"{kind} {name}"
            for kind, name in (("position", self.position), ("channel", self.channel))
            if name
        )
        missing = self.planned - self.received
        return f"{missing} of {self.planned}" + (f" of {where}" if where else "")


class Plan:
    """Counts the frames of one run against its sequence.

    Parameters
    ----------
    sequence
        What is being acquired; None where nobody knows.
    cameras
        Frames that an event gives.
    """

    def __init__(self, sequence: MDASequence | None = None, cameras: int = 1) -> None:
        self._sequence = sequence
        self._cameras = cameras
        self._added: Counter[Where] = Counter()
        self._came: dict[Where, int] = {}
        self._planned: Mapping[Where, int] | None = None
        self._counting: threading.Thread | None = None
        if sequence is None or not is_planned(sequence):
            return
        self._planned = _of_sizes(sequence, cameras)
        if self._planned is None:
            self._counting = threading.Thread(
                target=self._count, args=(sequence, cameras), name="refocus-plan", daemon=True
            )
            self._counting.start()

    def _count(self, sequence: MDASequence, cameras: int) -> None:
        try:
            self._planned = _of_events(sequence, cameras)
        except Exception:  # a plan that nobody can walk to its end
            logger.debug("the frames of the sequence cannot be counted", exc_info=True)

    def came(self, event: MDAEvent) -> None:
        """Count a frame. On the acquisition thread: a microsecond, and nothing that waits."""
        where = _where(event)
        self._came[where] = self._came.get(where, 0) + 1

    def begun(self, event: MDAEvent) -> None:
        """Count the frames of an event that was added to the sequence as planned."""
        if ADDED in event.metadata:
            self._added[_where(event)] += self._cameras

    def _expected(self) -> Mapping[Where, int] | None:
        """Give what is planned, with what was added since; None where that is not known."""
        if self._planned is None or not self._added:
            return self._planned
        added = self._added.copy()
        return {where: count + added[where] for where, count in self._planned.items()}

    def wait(self, seconds: float) -> None:
        """Wait until the sequence has been counted, but not for ever."""
        if self._counting is not None:
            self._counting.join(seconds)

    @property
    def planned(self) -> int | None:
        """How many frames the sequence has; None where that is not known, or not yet."""
        expected = self._expected()
        return None if expected is None else sum(expected.values())

    def short(self) -> tuple[Short, ...]:
        """Say where frames are missing so far, in the order of the sequence."""
        expected = self._expected()
        if expected is None:
            return ()
        came = self._came.copy()
        return tuple(
            Short(position_name(self._sequence, where[0]), where[1], count, came.get(where, 0))
            for where, count in expected.items()
            if came.get(where, 0) < count
        )

    def report(self) -> dict[str, Any] | None:
        """Give the part ``plan`` of ``report.json``; None where nothing is known."""
        if self._planned is None:
            return None
        short = self.short()
        return {
            "planned": self.planned,
            "received": sum(self._came.copy().values()),
            "added": sum(self._added.copy().values()),
            "missing": sum(one.planned - one.received for one in short),
            "short": [asdict(one) for one in short],
        }

    def by_place(self) -> tuple[Mapping[Where, int], Mapping[Where, int] | None]:
        """Give the frames that came, and those planned, by position and channel."""
        return self._came.copy(), self._expected()


def first_of(short: Sequence[Short]) -> str:
    """Name the first places at which frames are missing, and count the others."""
    more = f" and at {len(short) - NAMED} more places" if len(short) > NAMED else ""
    return ", ".join(map(str, short[:NAMED])) + more


def position_name(sequence: MDASequence | None, position: int) -> str:
    """Name a position of a sequence: its name, else its number; empty where it has none."""
    positions: Any = sequence.stage_positions if sequence is not None else ()
    if not len(positions):
        return ""
    return str(positions[position].name or position)


def is_planned(sequence: MDASequence) -> bool:
    """Tell a sequence that says what is coming from the stand-in for a mere iterable of events."""
    return type(sequence) is MDASequence or bool(sequence.axis_order)


def count_frames(sequence: MDASequence) -> int | None:
    """Count the events of a sequence that take a frame; None where they have no end."""
    try:
        found = _of_sizes(sequence, 1)
        return sum((_of_events(sequence, 1) if found is None else found).values())
    except Exception:  # some plans have no end
        return None


def _of_sizes(sequence: MDASequence, cameras: int) -> dict[Where, int] | None:
    """Multiply the sizes of a sequence whose positions and channels are all alike, or give None."""
    positions, channels = sequence.stage_positions, sequence.channels
    try:
        if any(position.sequence is not None for position in positions):
            return None
        if any(not c.do_stack or c.acquire_every != 1 for c in channels):
            return None
        if len({(c.group, c.config) for c in channels}) != len(channels):
            return None
        sizes = {str(axis): size for axis, size in sequence.sizes.items() if size}
    except Exception:  # another kind of sequence
        return None
    names = [channel.config for channel in channels] or [""]
    if not sizes or sizes.get("c", 1) != len(names) or sizes.get("p", 1) < len(positions):
        return None
    each = prod(sizes.values()) // sizes.get("p", 1) // sizes.get("c", 1) * cameras
    return {(p, name): each for p in range(sizes.get("p", 1)) for name in names}


def _of_events(sequence: MDASequence, cameras: int) -> dict[Where, int]:
    """Count the events, without those that take no frame; ValueError where they do not end."""
    counted: Counter[Where] = Counter()
    # not the sequence's own __iter__: one that follows focus takes note of what is asked of it
    # and not its autofocus plans: they remember where they were, and would not focus there again
    positions = deepcopy(sequence.stage_positions)
    twin = sequence.model_copy(update={"autofocus_plan": None, "stage_positions": positions})
    for number, event in enumerate(MDASequence.__iter__(twin)):
        if number >= MOST_EVENTS:
            raise ValueError("a sequence without an end")
        if event.action is None or isinstance(event.action, AcquireImage):
            counted[_where(event)] += cameras
    return dict(counted)


def _where(event: MDAEvent) -> Where:
    return event.index.get("p", 0), event.channel.config if event.channel else ""
