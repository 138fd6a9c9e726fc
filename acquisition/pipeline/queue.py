"""The bounded queue between the acquisition thread and the worker, and its accounts.

One queue serves one run. It holds every frame that is waiting, decides by its policy what happens
when it is full, and is the only place where a frame changes its state, under one lock that is
never held for more than a few microseconds.

What the acquisition thread does here is kept small: it touches few objects, makes a system call
only for a worker that sleeps, and leaves the freeing of large frames to others.
"""

import sys
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from refocus.acquisition.pipeline.alarm import Alarm, Fullness
from refocus.acquisition.pipeline.policy import Arrival, Entry, Fate, Policy, Task, make_policy
from refocus.configs import RefocusError

__all__ = ["Alarm", "Counts", "Fate", "FrameQueue", "Idle", "Taken", "Task", "make_policy"]


SMALL_BYTES = 30 << 20 if sys.platform == "linux" else 1 << 20
"""A frame up to this size is freed at once.

glibc keeps what it frees below 32 MB, and gives it to the next frame: a microsecond, and warm.
Elsewhere, and above, it goes back to the system, and that takes longer than the callback may.
"""


class Taken(NamedTuple):
    """What the worker is to deal with next: a frame, or what one that gave way has left."""

    arrival: Arrival
    gap: str = ""
    """Why there is no frame; empty where there is one."""
    task: Task = Task.REFOCUS
    deferred: bool = False
    """The frame is to be fetched from the raw data later."""
    sample: bytes = b""
    """Of a deferred one."""


class Idle(Enum):
    """What ``take`` gives instead of a frame to a worker that has other things to do."""

    TIME = "no frame is waiting"


@dataclass(frozen=True)
class Counts:
    """The accounts of a queue at one moment; the names are those of ``Stats``."""

    received: int
    published: int
    deferred: int
    dropped: int
    failed: int
    in_flight: int
    skipped: int
    queued: int
    peak: int
    alarm: str
    alarms_high: int
    alarms_full: int


class FrameQueue:
    """Bounded, first in first out, counting.

    ```
    put() ──► waiting ──► take() ──► under way ──► settle(PUBLISHED | FAILED)
                 └─ full: policy ──► DROPPED         ▲
                                 └─► DEFERRED ── resume()
    ```

    Parameters
    ----------
    policy
        Decides when it is full.
    capacity
        How many frames may wait, at least 1. As many again, that gave way, may still be in memory.
    throttle
        ``put`` waits for room instead of asking the policy. It holds the acquisition up, so it
        is for simulated and replayed cameras only.
    on_alarm
        Called on the acquisition thread when the alarm rises, which it does not with ``throttle``,
        which keeps the queue full on purpose; and when there is something to ``discard``.
    """

    def __init__(
        self,
        policy: Policy,
        capacity: int,
        throttle: bool = False,
        on_alarm: Callable[[], None] = lambda: None,
    ) -> None:
        if capacity < 1:
            raise RefocusError(f"queue of {capacity} frames: too small; give it 1 or more")
        self.capacity = capacity
        self._policy = policy
        self._throttle = throttle
        self._on_alarm = on_alarm
        self._lock = threading.Lock()
        self._room = threading.Condition(self._lock)
        self._bell = threading.Lock()  # held, but for the moment between a ring and its hearing
        self._bell.acquire()
        self._asleep = False  # the worker listens for the bell, and nobody has rung it
        self._line: deque[Entry] = deque()  # every frame that the worker has yet to hear of
        self._waiting: deque[Entry] = deque()  # those of them that are to be handed to it
        self._waiting_received = 0
        self._discarded: deque[Arrival] = deque()  # they gave way, and are still to be freed
        self._fates = dict.fromkeys(Fate, 0)
        self._received = 0
        self._skipped = 0
        self._under_way = 0  # taken, to be refocused, and not settled
        self._owed = 0  # whatever is to be done with them
        self._over = False
        self._given_up = False
        self._peak = 0
        self._fullness = Fullness(capacity)

    def put(self, arrival: Arrival, task: Task = Task.REFOCUS, why: str = "") -> None:
        """Leave a frame for the worker. Never blocks, unless throttled.

        Parameters
        ----------
        arrival
            The frame.
        task
            What is to be done with it.
        why
            Why it is left out, for ``Task.LEAVE``.
        """
        entry = Entry(arrival, task, why if task is Task.LEAVE else "")
        with self._lock:
            if self._throttle and task is not Task.LEAVE:
                while len(self._waiting) >= self.capacity and not self._over:
                    self._room.wait()
            if task is Task.REFOCUS:
                self._received += 1
            else:
                self._skipped += 1
            if self._over:
                self._fates[Fate.DROPPED] += task is Task.REFOCUS
                return
            self._line.append(entry)
            told = self._let_go(entry) if task is Task.LEAVE else self._admit(entry)
            if len(self._waiting) >= self._fullness.rises_from and not self._throttle:
                told = self._fullness.grown(len(self._waiting)) or told
            asleep, self._asleep = self._asleep, False
        if asleep:
            self._bell.release()
        if told:
            self._on_alarm()

    def _admit(self, entry: Entry) -> bool:
        """Have a frame wait; whether there is something to discard."""
        self._owed += 1
        self._waiting_received += entry.task is Task.REFOCUS
        if len(self._waiting) < self.capacity:
            self._waiting.append(entry)
            self._peak = max(self._peak, len(self._waiting))
            return False
        victim, fate = self._policy.make_room(self._waiting, entry)
        if victim.task is Task.REFOCUS:
            self._waiting_received -= 1
            self._fates[fate] += 1
        if fate is Fate.DEFERRED:
            victim.deferred = True
            victim.sample = victim.arrival.sample()
        else:
            victim.gap = "dropped: the queue was full"
            self._owed -= 1
        return self._let_go(victim)

    def _let_go(self, entry: Entry) -> bool:
        """Part with a frame's pixels; whether there is something to discard."""
        # A large one is left to whoever calls discard(). It must not wait for the worker: the next
        # frame would have to be given fresh memory, which takes longer still.
        large = entry.arrival.nbytes > SMALL_BYTES and len(self._discarded) < self.capacity
        if large:
            self._discarded.append(entry.arrival)
        entry.arrival = entry.arrival.without_pixels()
        return large

    def discard(self) -> None:
        """Free the memory of the frames that gave way."""
        with suppress(IndexError):
            while True:
                self._discarded.popleft()

    def take(self, busy: bool = False, patience: float = 0.0) -> Taken | Idle | None:
        """Wait for what is next in order of capture; None once the run is over.

        Each frame taken must be settled; several may be under way.

        Parameters
        ----------
        busy
            The caller has other things to do, frames under way or deferred ones: give
            ``Idle.TIME`` instead of waiting, or of None.
        patience
            How many seconds to wait nevertheless.
        """
        while True:
            with self._lock:
                if self._line:
                    return self._next(self._line.popleft())
                if busy and not self._given_up:
                    if patience <= 0.0:
                        return Idle.TIME
                elif self._over:
                    return None
                self._asleep = True
            self._sleep(patience if patience > 0.0 else -1.0)
            patience = 0.0

    def _sleep(self, seconds: float) -> None:
        """Wait for the bell, which is rung once for each time that the worker is asleep."""
        if self._bell.acquire(timeout=seconds):
            return
        with self._lock:
            if not self._asleep:  # rung at the last moment: hear it, or it would ring next time
                self._bell.acquire()
            self._asleep = False

    def _wake(self) -> None:
        if self._asleep:
            self._asleep = False
            self._bell.release()

    def _next(self, entry: Entry) -> Taken:
        if not self._waiting or self._waiting[0] is not entry:
            return Taken(entry.arrival, entry.gap, entry.task, entry.deferred, entry.sample)
        self._waiting.popleft()
        self._waiting_received -= entry.task is Task.REFOCUS
        self._under_way += entry.task is Task.REFOCUS
        self._fullness.shrunk(len(self._waiting))
        if self._throttle:
            self._room.notify()
        return Taken(entry.arrival, task=entry.task)

    def resume(self, task: Task) -> bool:
        """Take a deferred frame up again; False if it had been given up meanwhile."""
        with self._lock:
            if self._given_up:
                return False
            self._fates[Fate.DEFERRED] -= task is Task.REFOCUS
            self._under_way += task is Task.REFOCUS
            return True

    def settle(self, task: Task, fate: Fate) -> bool:
        """Say what became of a frame under way; False if it had been given up meanwhile."""
        with self._lock:
            if self._given_up:
                return False
            self._owed -= 1
            self._under_way -= task is Task.REFOCUS
            self._fates[fate] += task is Task.REFOCUS
            return True

    def finish(self) -> None:
        """Say that no more frames will come; those waiting are still to be taken."""
        with self._lock:
            self._over = True
            self._wake()
            self._room.notify_all()

    @property
    def owed(self) -> int:
        """How many frames, refocused or as captured, the sinks are still to get."""
        return self._owed

    @property
    def over(self) -> bool:
        """Whether no more frames will come."""
        return self._over

    def give_up(self) -> int:
        """Finish, and lose what is left.

        Waiting and deferred frames count as dropped, those under way as failed.

        Returns
        -------
        int
            How many frames were lost.
        """
        self.finish()
        with self._lock:
            self._given_up = True
            self._owed = 0
            failed, self._under_way = self._under_way, 0
            dropped = self._waiting_received + self._fates[Fate.DEFERRED]
            self._fates[Fate.DROPPED] += dropped
            self._fates[Fate.FAILED] += failed
            self._fates[Fate.DEFERRED] = 0
            for entry in self._line:
                entry.arrival = entry.arrival.without_pixels()
                entry.gap = entry.gap or "dropped: the pipeline was closed"
                entry.deferred = False
            self._waiting.clear()
            self._waiting_received = 0
            self._discarded.clear()
            return dropped + failed

    def counts(self) -> Counts:
        """Count the frames in every state, at one moment."""
        with self._lock:
            return Counts(
                received=self._received,
                published=self._fates[Fate.PUBLISHED],
                deferred=self._fates[Fate.DEFERRED],
                dropped=self._fates[Fate.DROPPED],
                failed=self._fates[Fate.FAILED],
                in_flight=self._waiting_received + self._under_way,
                skipped=self._skipped,
                queued=self._waiting_received,
                peak=self._peak,
                alarm=self._fullness.alarm.value,
                alarms_high=self._fullness.times[Alarm.HIGH],
                alarms_full=self._fullness.times[Alarm.FULL],
            )
