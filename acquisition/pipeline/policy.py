"""What may become of a frame, and which one gives way when the queue is full."""

from collections import deque
from collections.abc import Callable
from enum import Enum
from typing import Protocol

from refocus.acquisition.pipeline.frame import CapturedFrame
from refocus.configs import RefocusError


class Fate(Enum):
    """Every end a received frame can come to; deferred ones have it still before them."""

    PUBLISHED = "published"
    DEFERRED = "deferred"
    DROPPED = "dropped"
    FAILED = "failed"

    __hash__ = object.__hash__  # counted by, for every frame: an Enum's own is a Python function


class Task(Enum):
    """What is to be done with a frame; the last two count as skipped, and not as received."""

    REFOCUS = "refocus"
    PASS = "pass"
    """Hand it on as it was captured."""
    LEAVE = "leave"
    """Note that it is left out."""


class Arrival(Protocol):
    """A frame as the acquisition thread leaves it: described later, on the worker."""

    def describe(self) -> CapturedFrame:
        """Give the frame with all that is known about it."""
        ...

    def note(self) -> None:
        """Take note of a frame that nobody wants to be described."""
        ...

    def without_pixels(self) -> "Arrival":
        """Give the same frame without the memory of its pixels (zeros of the same shape).

        It is another object: to let go of the memory is for whoever drops this one.
        """
        ...

    @property
    def nbytes(self) -> int:
        """How large its pixels are, bytes."""
        ...

    def sample(self) -> bytes:
        """Give a few of its pixels, by which it is known again."""
        ...


class Entry:
    """A frame's place in the line, in order of capture; what becomes of it may change there."""

    __slots__ = ("arrival", "deferred", "gap", "sample", "task")

    def __init__(self, arrival: Arrival, task: Task = Task.REFOCUS, gap: str = "") -> None:
        self.arrival = arrival
        self.task = task
        self.gap = gap
        self.deferred = False
        self.sample = b""


class Policy(Protocol):
    """What happens when a frame arrives and the queue is full."""

    @property
    def name(self) -> str:
        """The word users choose it by."""
        ...

    def make_room(self, waiting: deque[Entry], arriving: Entry) -> tuple[Entry, Fate]:
        """Leave as many frames waiting as there were; return the one that gave way, and its fate.

        Called on the acquisition thread under the queue's lock: no I/O, no copies, no waiting.
        """
        ...


class DropOldest:
    """For watching: the oldest waiting frame gives way, and counts as dropped."""

    name = "newest"

    def make_room(self, waiting: deque[Entry], arriving: Entry) -> tuple[Entry, Fate]:
        """Take the newcomer in, and the oldest out."""
        waiting.append(arriving)
        return waiting.popleft(), Fate.DROPPED


class DeferOldest:
    """For data: the oldest waiting frame gives way, and is refocused later from the raw data.

    The oldest, because it is the likeliest to be on the disk already, and because whoever
    watches then sees the present.
    """

    name = "every"

    def make_room(self, waiting: deque[Entry], arriving: Entry) -> tuple[Entry, Fate]:
        """Take the newcomer in, and the oldest out."""
        waiting.append(arriving)
        return waiting.popleft(), Fate.DEFERRED


POLICIES: dict[str, Callable[[], Policy]] = {"newest": DropOldest, "every": DeferOldest}


def make_policy(name: str) -> Policy:
    """Give the policy of that name.

    Raises
    ------
    RefocusError
        There is none.
    """
    if name not in POLICIES:
        raise RefocusError(f"policy {name!r}: unknown; choose one of {', '.join(POLICIES)}")
    return POLICIES[name]()
