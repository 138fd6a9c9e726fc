"""What is known of a stream: the newest frame of each place, what came before, and the counts.

It is told message by message, on whatever thread they come, and asked from others: nobody waits for
anybody. A frame replaces the one before it at the same place, so that nobody who looks can make
frames pile up, here or at the publisher.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from refocus.stream.link import LinkState
from refocus.stream.messages import RunHeader
from refocus.stream.subscriber import Message, ReceivedFrame
from refocus.view.ages import Ages
from refocus.view.marks import Marks
from refocus.view.places import KEPT_BYTES, LatestFrames, Place, Shown, Wanted
from refocus.view.status import Status


class StreamState:
    """The newest frame of every place of a run, and how the run stands.

    Parameters
    ----------
    endpoint
        Where frames come from, as a person is told.
    one_clock
        Whether they are captured by this computer's clock.
    budget
        Bytes of pixels to keep, see :class:`~refocus.view.places.LatestFrames`.

    Attributes
    ----------
    lost
        Messages that never came.
    obstacle
        Why nothing can come, in one line; empty where it can.
    """

    def __init__(self, endpoint: str, one_clock: bool, budget: int = KEPT_BYTES) -> None:
        self.endpoint = endpoint
        self.lost = 0
        self.obstacle = ""
        self._ages = Ages(one_clock)
        self._lock = threading.Lock()
        self._newest = LatestFrames(budget)
        self._marks = Marks()
        self._status = Status(time.monotonic())
        self._phase = ""
        self._run = ""
        self._serial = 0
        self._revision = 0
        self._wakers: list[Callable[[], None]] = []

    @contextmanager
    def listening(self, wake: Callable[[], None]) -> Iterator[None]:
        """Have ``wake`` called, on the feed's thread, whenever there is something new."""
        with self._lock:
            self._wakers.append(wake)
        try:
            yield
        finally:
            with self._lock:
                self._wakers.remove(wake)

    def newest(self, wanted: Wanted) -> Shown | None:
        """Give the newest frame of what is wanted."""
        with self._lock:
            return self._newest.get(wanted)

    def of_each_channel(self, wanted: Wanted) -> list[Shown]:
        """Give the newest frame of each channel of what is wanted, oldest first."""
        with self._lock:
            return self._newest.of_each_channel(wanted)

    def held(self, serial: int) -> Shown | None:
        """Give an earlier frame of this run, or None if it is not kept any more."""
        with self._lock:
            return self._newest.held(serial)

    def marks(self, since: int) -> tuple[int, dict[str, Any] | None]:
        """Give what is remembered of the frames after the first ``since`` of all.

        Returns
        -------
        made, marks
            Marks is None where there are none; else ``run``, ``marks``, and ``kept``, the serial
            number of the oldest frame whose pixels are here.
        """
        with self._lock:
            fresh = self._marks.since(since)
            kept = {"run": self._run, "kept": self._newest.oldest, "marks": fresh}
            return self._marks.made, kept if fresh else None

    def state(self, since: int) -> tuple[int, dict[str, Any] | None]:
        """Give what is known of the stream, unless it is that of revision ``since``.

        Returns
        -------
        revision, state
            State is None where nothing has changed.
        """
        with self._lock:
            if since == self._revision:
                return since, None
            state = self._status.describe(time.monotonic())
            state |= {
                "endpoint": self.endpoint,
                "places": self._newest.axes(),
                "lost": self.lost,
                "one_clock": self._ages.one_clock,
            }
            return self._revision, state

    def points(self, since: int) -> tuple[int, list[dict[str, Any]]]:
        """Give the points of the time line that were made after the first ``since``."""
        with self._lock:
            made = self._status.points_made
            fresh = min(made - since, len(self._status.points))
            return made, list(self._status.points)[len(self._status.points) - fresh :]

    def note(self, message: Message | None, link: LinkState | None = None, fault: str = "") -> None:
        """Take what came, if anything did, and tell whoever listens.

        Parameters
        ----------
        message
            A frame, or what is said of the run.
        link
            How the connection stands; None where nobody has looked.
        fault
            Why a message was not understood.
        """
        now = time.monotonic()
        with self._lock:
            if link is not None:
                self._status.link(link, now)
            if fault:
                self._status.fault(fault, now)
            changed = self._take(message, now) if message is not None else False
            phase = self._status.phase(now)
            if changed or phase != self._phase:
                self._phase = phase
                self._revision += 1
                changed = True
            wakers = list(self._wakers) if changed or message is not None else []
        for wake in wakers:
            wake()

    def _take(self, message: Message, now: float) -> bool:
        """Keep what came; tell whether more has changed than a picture."""
        if message_is_new_run := self._run_of(message) != self._run:
            self._run = self._run_of(message)
            self._newest.clear()
            self._marks.clear()
        if isinstance(message, ReceivedFrame):
            self._serial += 1
            captured = now - self._ages.seconds(message.header, time.time())
            shown = Shown(self._serial, Place.of(message.header), message, captured)
            had_raw = self._status.has_raw
            self._status.frame(shown, now)
            self._marks.put(shown, time.time() - (now - captured))
            new_place = self._newest.put(shown)
            return message_is_new_run or new_place or had_raw != self._status.has_raw
        if isinstance(message, RunHeader):
            return self._status.run(message, now) or message_is_new_run
        self._status.stats(message, now)
        return True

    @staticmethod
    def _run_of(message: Message) -> str:
        return message.header.run if isinstance(message, ReceivedFrame) else message.run
