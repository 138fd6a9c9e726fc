"""The pipeline's second thread: stats every second, alarms at once, and an eye on the engine.

What it computes it computes with the GIL, which the acquisition is waiting for: so alarms that come
and go faster than anyone reads are told together, and sums are done for those who listen.
"""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

from psygnal import EmitLoopError, SignalInstance

from refocus.acquisition.pipeline.events import LiveEvents
from refocus.acquisition.pipeline.queue import Counts
from refocus.acquisition.pipeline.run import Run
from refocus.acquisition.pipeline.sink import Sink, Ticking
from refocus.acquisition.pipeline.stats import Stats

logger = logging.getLogger("refocus.acquisition")

REST_S = 0.05
"""Between two looks at the alarm, at least."""


class Ticker:
    """Tells sinks and listeners how the run in progress is getting on, even if the engine hangs.

    Parameters
    ----------
    events
        Whose signals to emit.
    sinks
        Those that are :class:`Ticking` are given the stats.
    seconds
        How often.
    run
        Gives the run in progress, or the last one.
    check
        Called as often during a run, to look after the worker.
    """

    def __init__(
        self,
        events: LiveEvents,
        sinks: Sequence[Sink],
        seconds: float,
        *,
        run: Callable[[], Run | None],
        check: Callable[[], None],
    ) -> None:
        self._events = events
        self._sinks = [sink for sink in sinks if isinstance(sink, Ticking)]
        self._seconds = seconds
        self._run = run
        self._check = check
        self._bell = threading.Lock()  # held, but for the moment between a ring and its hearing
        self._bell.acquire()
        self._rung = False
        self._stopping = False
        self._thread = threading.Thread(target=self._tick, name="refocus-ticker", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """Have it look at the queue at once. Cheap, from any thread."""
        if not self._rung:  # an Event would do, in ten times the time
            self._rung = True
            with suppress(RuntimeError):  # another thread has rung it just now
                self._bell.release()

    def stop(self, timeout: float | None = None) -> None:
        """Tell of a last alarm, and end the thread."""
        self._stopping = True
        self.wake()
        self._thread.join(timeout)

    def _tick(self) -> None:
        due = look = time.monotonic() + self._seconds
        rested = 0.0
        told: Run | None = None
        before: Counts | None = None
        while True:
            self._bell.acquire(timeout=max(0.0, look - time.monotonic()))
            self._rung = False
            run, now = self._run(), time.monotonic()
            if run is not None:
                run.queue.discard()
            if self._stopping or now >= min(rested, due):
                before = before if run is told else None
                if run is not None:
                    with run.guarded():
                        before = self._tell(run, before)
                told, rested, look = run, now + REST_S, due
            else:
                look = min(rested, due)
            if self._stopping:
                return
            if now < due:
                continue
            due = look = time.monotonic() + self._seconds
            if run is not None:
                with run.guarded():
                    self._check()
                self._hand_on(run)

    def _hand_on(self, run: Run) -> None:
        for sink in self._sinks:
            try:
                sink.tick(run.stats())
            except BaseException as error:  # a sink's own kind must not end the thread
                run.problem(f"{type(sink).__name__}: {error}".replace("\n", " "))
        with run.guarded():
            emit(self._events.ticked, run.stats)

    def _tell(self, run: Run, before: Counts | None) -> Counts:
        """Log and emit how the alarm changed since ``before``; give what was told now."""
        now = run.queue.counts()
        high, full, alarm = (
            (before.alarms_high, before.alarms_full, before.alarm) if before else (0, 0, "")
        )
        short, waiting = run.info.run[:8], f"{now.peak} of {run.queue.capacity} frames waiting"
        if now.alarms_high > high:
            logger.info("run %s: the queue is three quarters full (%s)", short, waiting)
            emit(self._events.queue_high, run.stats)
        if now.alarms_full > full:
            logger.log(
                logging.INFO if run.view or full else logging.WARNING,
                "run %s: the queue is full (%s): the engine is slower than the camera, and frames "
                "without room are %s",
                short,
                waiting,
                "refocused later" if run.info.policy == "every" else "dropped",
            )
            emit(self._events.queue_full, run.stats)
        if alarm and not now.alarm:
            emit(self._events.queue_eased, run.stats)
        return now


def emit(signal: SignalInstance, stats: Callable[[], Stats]) -> None:
    """Emit a signal, if anyone listens; a listener that raises is logged."""
    if not len(signal):
        return
    try:
        signal.emit(stats())
    except EmitLoopError as error:
        logger.error("a listener to %s raised: %s", signal.name, error.__cause__ or error)
