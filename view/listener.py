"""One thread that listens to a publisher, and knows the newest of everything.

It never waits for a browser: what comes is taken at once, and a frame replaces the one before it at
the same place. So nobody who looks can make frames pile up, here or at the publisher.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from refocus.configs import RefocusError
from refocus.configs.hosts import is_local
from refocus.stream.messages import RunHeader
from refocus.stream.subscriber import Message, ReceivedFrame, Subscription
from refocus.view.ages import Ages
from refocus.view.marks import Marks
from refocus.view.places import LatestFrames, Place, Shown, Wanted
from refocus.view.status import Status

logger = logging.getLogger("refocus.view")

POLL_S = 0.2
"""How often silence is looked at."""


class Listener:
    """Follows an endpoint, run after run, from ``start`` to ``close``.

    Parameters
    ----------
    endpoint
        Where frames are published; the publisher may start later, and again.
    keys
        The reader's folder of keys, where the publisher asks for them.

    Raises
    ------
    RefocusError
        The endpoint is not one, or there are no such keys.
    """

    def __init__(self, endpoint: str, keys: Path | None = None) -> None:
        self.endpoint = endpoint
        self._subscription = Subscription(endpoint, keys=keys, watch_link=True)
        self._ages = Ages(bool(is_local(endpoint)))
        self._lock = threading.Lock()
        self._newest = LatestFrames()
        self._marks = Marks()
        self._status = Status(time.monotonic())
        self._phase = ""
        self._run = ""
        self._serial = 0
        self._revision = 0
        self._wakers: list[Callable[[], None]] = []
        self._stopping = False
        self._thread = threading.Thread(target=self._follow, name="refocus-view-feed", daemon=True)

    def start(self) -> None:
        """Begin to listen."""
        self._thread.start()

    def close(self) -> None:
        """Stop listening. May be called twice."""
        self._stopping = True
        if self._thread.ident is not None:
            self._thread.join()
        self._subscription.close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

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
                "lost": self._subscription.lost,
                "one_clock": self._ages.one_clock,
            }
            return self._revision, state

    def points(self, since: int) -> tuple[int, list[dict[str, Any]]]:
        """Give the points of the time line that were made after the first ``since``."""
        with self._lock:
            made = self._status.points_made
            fresh = min(made - since, len(self._status.points))
            return made, list(self._status.points)[len(self._status.points) - fresh :]

    # -- on the feed's thread

    def _follow(self) -> None:
        while not self._stopping:
            try:
                self._step()
            except Exception:
                # a viewer that is left on over night goes on with the next message
                logger.exception("a message could not be shown")
                time.sleep(POLL_S)

    def _step(self) -> None:
        message: Message | None = None
        fault = ""
        try:
            message = self._subscription.receive(POLL_S)
        except RefocusError as error:
            fault = str(error)
        now, link = time.monotonic(), self._subscription.link
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
