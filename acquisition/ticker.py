"""The pipeline's second thread: stats every second, alarms at once, and an eye on the engine."""

import logging
import threading
import time
from collections.abc import Callable, Sequence

from psygnal import EmitLoopError, SignalInstance

from refocus.acquisition.events import LiveEvents
from refocus.acquisition.served import Run
from refocus.acquisition.sink import Sink, Ticking
from refocus.acquisition.stats import Stats

logger = logging.getLogger("refocus.acquisition")


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
        Called as often, to look after the worker.
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
        self._woken = threading.Event()
        self._stopping = False
        self._thread = threading.Thread(target=self._tick, name="refocus-ticker", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """Have it look at the alarm at once. Cheap, from any thread."""
        self._woken.set()

    def stop(self, timeout: float | None = None) -> None:
        """Tell of a last alarm, and end the thread."""
        self._stopping = True
        self._woken.set()
        self._thread.join(timeout)

    def _tick(self) -> None:
        due = time.monotonic() + self._seconds
        told = Stats()
        while True:
            self._woken.wait(max(0.0, due - time.monotonic()))
            self._woken.clear()
            run = self._run()
            if run is not None:
                told = self._tell(run, told)
            if self._stopping:
                return
            if time.monotonic() < due:
                continue
            due = time.monotonic() + self._seconds
            self._check()
            if run is not None:
                self._hand_on(run)

    def _hand_on(self, run: Run) -> None:
        for sink in self._sinks:
            try:
                sink.tick(run.stats())
            except Exception as error:
                run.problem(f"{type(sink).__name__}: {error}".replace("\n", " "))
        emit(self._events.ticked, run.stats())

    def _tell(self, run: Run, before: Stats) -> Stats:
        """Log and emit how the alarm changed since ``before``; give what was told now."""
        now = run.stats()
        if before.run != now.run:
            before = Stats(run=now.run)
        short, waiting = now.run[:8], f"{now.peak} of {now.capacity} frames waiting"
        if now.alarms_high > before.alarms_high:
            logger.info("run %s: the queue is three quarters full (%s)", short, waiting)
            emit(self._events.queue_high, now)
        if now.alarms_full > before.alarms_full:
            logger.log(
                logging.INFO if run.view or before.alarms_full else logging.WARNING,
                "run %s: the queue is full (%s): the engine is slower than the camera, and frames "
                "without room are %s",
                short,
                waiting,
                "refocused later" if run.info.policy == "every" else "dropped",
            )
            emit(self._events.queue_full, now)
        if before.alarm and not now.alarm:
            emit(self._events.queue_eased, now)
        return now


def emit(signal: SignalInstance, stats: Stats) -> None:
    """Emit a signal; a listener that raises is logged."""
    try:
        signal.emit(stats)
    except EmitLoopError as error:
        logger.error("a listener to %s raised: %s", signal.name, error.__cause__ or error)
