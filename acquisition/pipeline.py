"""From the acquisition thread to the sinks: one bounded queue and one worker.

Responsibilities
----------------
- ``Pipeline`` owns two threads: the worker, the only one that runs the engine and calls ``start``,
  ``put``, ``skip`` and ``close`` of the sinks, and the ticker (:mod:`refocus.acquisition.ticker`).
- Runs are served one after another; the next may begin while the last one drains.
- Deferred frames are refocused when nothing else is waiting, and once a run is over.

Nothing that goes wrong in an engine or a sink leaves this module as an exception: it is counted,
logged once, kept in ``Run.problems``, and the run goes on.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from refocus.acquisition.arrival import Described
from refocus.acquisition.debts import Debt, Debts
from refocus.acquisition.events import LiveEvents
from refocus.acquisition.frame import CapturedFrame, FrameResult
from refocus.acquisition.queue import Fate, FrameQueue, Owed, Taken, Task, make_policy
from refocus.acquisition.rawdata import RawFrames, read_back
from refocus.acquisition.refocusing import Refocuser, Region
from refocus.acquisition.served import Run
from refocus.acquisition.sink import RunInfo, Sink, Ticking
from refocus.acquisition.stats import Stats
from refocus.acquisition.ticker import Ticker, emit
from refocus.configs import RefocusError
from refocus.engine.protocol import Engine, EngineInfo

__all__ = ["Pipeline", "Run", "RunInfo", "Sink", "Ticking"]

logger = logging.getLogger("refocus.acquisition")

RAW_PATIENCE_S = 10.0
"""How long after the end of a run its raw data may still take to appear on the disk."""


class Pipeline:
    """Refocuses frames on a worker thread and hands the results to the sinks.

    Parameters
    ----------
    engine
        Refocuses one frame at a time. It is not closed here.
    sinks
        Receive every result, in this order.
    policy
        What happens when the queue is full; see :mod:`refocus.acquisition.queue`.
    capacity
        Frames that may wait.
    throttle
        Make ``submit`` wait for room, so that nothing is dropped: for simulated and replayed
        cameras only, because it holds the acquisition up.
    tick_seconds
        How often sinks that ask for it are given the stats.
    raw
        Gives deferred frames back; the policy ``every`` needs it.
    channels
        Engines of some channels, instead of ``engine``.
    region
        Refocus only this part of a frame: ``(x, y, width, height)``, pixels.
    patience_seconds
        A frame that the engine and the sinks have not dealt with by then is given up, and its
        run with it. The acquisition goes on.

    Attributes
    ----------
    events
        Signals to connect to.
    """

    def __init__(
        self,
        engine: Engine,
        sinks: Sequence[Sink] = (),
        *,
        policy: str = "newest",
        capacity: int = 8,
        throttle: bool = False,
        tick_seconds: float = 1.0,
        raw: RawFrames | None = None,
        channels: Mapping[str, Engine] | None = None,
        region: Region | None = None,
        patience_seconds: float = 120.0,
    ) -> None:
        self.events = LiveEvents()
        self._refocuser = Refocuser(engine, channels or {}, region)
        self._sinks = tuple(sinks)
        self._make_queue: Callable[[int], FrameQueue] = lambda most: FrameQueue(
            make_policy(policy), min(capacity, most), throttle, self._ticker.wake
        )
        FrameQueue(make_policy(policy), capacity)  # wrong ones fail here, not in the first run
        if policy == "every" and raw is None:
            raise RefocusError(
                "policy 'every': needs the raw data to be saved, to come back to a frame; "
                "save them (--save DIR), or choose the policy newest"
            )
        self.policy = policy
        self._raw = raw if policy == "every" else None
        self._capacity = capacity
        self._patience_ns = int(patience_seconds * 1e9)
        self._busy_since = 0
        self._runs: deque[Run] = deque()
        self._current: Run | None = None
        self._serving: Run | None = None
        self._closing = False
        self._changed = threading.Condition()
        self._worker = threading.Thread(target=self._work, name="refocus-worker", daemon=True)
        self._worker.start()
        self._ticker = Ticker(
            self.events,
            self._sinks,
            min(tick_seconds, patience_seconds),
            run=lambda: self._current,
            check=self._look_after,
        )

    @property
    def run(self) -> Run | None:
        """The run in progress, or the last one."""
        return self._current

    def start(self, info: RunInfo, timeout: float = 10.0, most: int | None = None) -> Run:
        """Begin a run: warm the engine up and start the sinks, and wait until that is done.

        The wait ends after ``timeout`` seconds, because an acquisition must begin whatever
        happens here. A run that has not been finished is finished first. ``most`` frames may
        wait in it, if that is less than usual.
        """
        self.finish()
        debts = Debts() if self._raw is not None else None
        queue = self._make_queue(most or self._capacity)
        run = Run(info, queue, debts, view=most is not None)
        with self._changed:
            if self._closing:
                raise RefocusError("pipeline: closed; make a new one for another run")
            self._current = run
            self._runs.append(run)
            self._changed.notify_all()
        if not run.ready.wait(timeout):
            run.problem(f"engine or sinks not ready after {timeout:g} s: acquiring anyway")
        return run

    def submit(self, frame: CapturedFrame) -> None:
        """Leave a frame to be refocused. Never blocks, unless throttled.

        Raises
        ------
        RefocusError
            No run was started.
        """
        if self._current is None:
            raise RefocusError("pipeline: no run in progress; call start() before submit()")
        self._current.queue.put(Described(frame))

    def finish(self) -> None:
        """Say that the run in progress delivers no more frames. Does not wait."""
        if self._current is not None:
            self._current.queue.finish()

    def stats(self) -> Stats:
        """Take the counts and times of the run in progress, or of the last one."""
        return self._current.stats() if self._current is not None else Stats()

    def drain(self, timeout: float | None = None) -> bool:
        """Wait until every finished run is dealt with to its last frame; False on timeout."""
        with self._changed:
            return self._changed.wait_for(self._drained, timeout)

    def _drained(self) -> bool:
        return not self._runs and (self._serving is None or self._serving.over.is_set())

    def close(self, timeout: float | None = None) -> bool:
        """Finish, drain, and end the threads. May be called twice.

        Returns
        -------
        bool
            True if every frame was dealt with within ``timeout`` seconds (None: however long it
            takes, unless the engine hangs). If not, those left are counted as dropped and failed,
            and the sinks closed.
        """
        self.finish()
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        in_time = self.drain(timeout)
        if not in_time:
            self._give_up("the engine or a sink does not return, or too much was left to do")
        self._worker.join(timeout if in_time and not self._hanging() else 0.1)
        self._ticker.stop(timeout)
        return in_time and not self._worker.is_alive()

    def warm_up(
        self, shape: tuple[int, ...], dtype: np.dtype[Any], pixel_size_um: float = 0.0
    ) -> None:
        """Make the engines ready for such frames, once; see :meth:`Refocuser.warm_up`."""
        self._refocuser.warm_up(shape, dtype, pixel_size_um)

    # -- the worker thread

    def _work(self) -> None:
        while True:
            with self._changed:
                self._serving = None
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._runs or self._closing)
                if not self._runs:
                    return
                run = self._serving = self._runs.popleft()
            try:
                self._serve(run)
            except Exception:
                logger.critical("run %s: the worker failed", run.info.run[:8], exc_info=True)
                run.queue.give_up()
            self._close(run)

    def _serve(self, run: Run) -> None:
        self._start(run)
        while not run.over.is_set():
            taken = run.queue.take(run.owing, run.raw_patience)
            if taken is None:
                return
            self._busy_since = time.monotonic_ns()
            if isinstance(taken, Owed):
                self._pay(run)
            else:
                self._deal_with(run, taken)
            self._busy_since = 0
            del taken  # an idle worker must not hold the pixels of the last frame

    def _start(self, run: Run) -> None:
        camera = run.info.camera
        try:
            if {"height", "width", "dtype"} <= camera.keys():
                shape = camera.get("shape", (camera["height"], camera["width"]))
                self.warm_up(
                    tuple(shape), np.dtype(camera["dtype"]), camera.get("pixel_size_um", 0.0)
                )
            if self._raw is not None:
                self._raw.start(run.info)
        except Exception as error:
            run.problem(f"the engine did not warm up: {_text(error)}")
        if self._raw is not None:
            from refocus.acquisition.layout import Places

            run.place = Places(run.info).of
        for sink in self._sinks:
            run.sinks.append(sink)
            self._call(run, sink, "start", run.info)
        run.ready.set()

    def _deal_with(self, run: Run, taken: Taken) -> None:
        nothing = bool(taken.gap) or taken.deferred
        try:
            arrival = taken.arrival.without_pixels() if nothing else taken.arrival
            frame = arrival.describe()
            if run.place is not None:
                frame = replace(frame, place=run.place(frame))
            if taken.deferred and run.debts is not None:
                run.debts.add(Debt(frame, taken.task, taken.sample))
        except Exception as error:
            run.problem(f"metadata of a frame not understood: {_text(error)}")
            if taken.deferred:
                run.queue.redeem(taken.task)
            if not taken.gap:
                run.queue.settle(Fate.FAILED)
            return
        if taken.gap:
            self._hand(run, "skip", frame, taken.gap)
        elif not taken.deferred:
            self._publish(run, frame, taken.task)

    def _pay(self, run: Run) -> None:
        """Refocus the oldest deferred frame, if the raw data hold it already."""
        assert run.debts is not None
        assert self._raw is not None
        debt = run.debts.first()
        try:
            pixels = read_back(self._raw, debt)
        except Exception as error:
            run.problem(f"raw data not read back: {_text(error)}")
            pixels = None
        now = time.monotonic_ns()
        if pixels is None and not (run.queue.over and now > run.raw_until_ns > 0):
            run.raw_patience = 0.05
            if run.queue.over and not run.raw_until_ns:
                run.raw_until_ns = now + int(RAW_PATIENCE_S * 1e9)
            return
        run.raw_patience = 0.0
        run.debts.paid()
        if not run.queue.redeem(debt.task):
            return
        if pixels is None:
            text = "deferred frame not found in the raw data: see that they are saved"
            run.problem(text)
            run.queue.settle(Fate.FAILED)
            self._hand(run, "skip", debt.frame, f"failed: {text}")
        else:
            self._publish(run, replace(debt.frame, pixels=pixels), debt.task, late=True)

    def _publish(self, run: Run, frame: CapturedFrame, task: Task, late: bool = False) -> None:
        begun = time.perf_counter_ns()
        engine: EngineInfo | None = None
        pixels = frame.pixels
        try:
            if task is Task.REFOCUS:
                pixels, engine = self._refocuser.refocus(frame)
        except Exception as error:
            run.problem(f"frame not refocused: {_text(error)}")
            if run.queue.settle(Fate.FAILED):
                self._hand(run, "skip", frame, f"failed: {_text(error)}")
            return
        if run.over.is_set():
            return  # given up meanwhile
        engine_ms = (time.perf_counter_ns() - begun) / 1e6
        result = FrameResult(
            captured=frame,
            pixels=pixels,
            refocused=engine is not None,
            number=run.number,
            queued_ms=(begun - frame.captured_ns) / 1e6,
            engine_ms=engine_ms if engine else 0.0,
            engine=engine,
        )
        run.number += 1
        handed = self._hand(run, "put", result)
        if engine is not None:
            run.first_ns = run.first_ns or frame.captured_ns
            run.last_ns = time.perf_counter_ns()
            run.engine_ms.add(engine_ms)
            if not late:
                run.latency_ms.add((run.last_ns - frame.captured_ns) / 1e6)
        run.queue.settle(Fate.PUBLISHED if handed else Fate.FAILED)

    def _hand(self, run: Run, method: str, *args: Any) -> bool:
        """Call every sink; False if one failed, now or earlier in this run."""
        for sink in tuple(run.sinks):
            self._call(run, sink, method, *args)
        return len(run.sinks) == len(self._sinks)

    def _call(self, run: Run, sink: Sink, method: str, *args: Any) -> None:
        try:
            getattr(sink, method)(*args)
        except Exception as error:
            logger.debug("traceback", exc_info=True)
            run.problem(f"{type(sink).__name__} left out of the run: {_text(error)}")
            if sink in run.sinks:
                run.sinks.remove(sink)

    def _close(self, run: Run) -> None:
        with run.closing:
            if run.over.is_set():
                return
            run.ready.set()
            stats = run.stats()
            try:
                stats.check()
            except AssertionError:
                logger.critical("run %s: accounts", run.info.run[:8], exc_info=True)
            for sink in self._sinks:
                self._call(run, sink, "close", stats)
            if run.debts is not None:
                run.debts.close()
            run.over.set()
        with self._changed:
            self._changed.notify_all()
        for text, count in run.problems.items():
            if count > 1:
                logger.error("run %s: %d times: %s", run.info.run[:8], count, text)
        emit(self.events.finished, lambda: stats)

    # -- others

    def _give_up(self, why: str) -> None:
        with self._changed:
            runs = [run for run in (self._serving, *self._runs) if run is not None]
            self._runs.clear()
        for run in runs:
            if run.over.is_set():
                continue
            lost = run.queue.give_up()
            run.problem(f"gave up on {lost} frames: {why}")
            self._close(run)

    def _hanging(self) -> bool:
        since = self._busy_since
        return 0 < since < time.monotonic_ns() - self._patience_ns

    def _look_after(self) -> None:
        """Give up on an engine, or a sink, that does not return."""
        if self._hanging() and not self._drained():
            seconds = self._patience_ns / 1e9
            self._give_up(f"the engine or a sink has not returned for {seconds:g} s")
            emit(self.events.hung, self.stats)


def _text(error: Exception) -> str:
    """Say an error in one line: a sentence for the user as it is, anything else with its type."""
    if isinstance(error, RefocusError):
        return str(error)
    return f"{type(error).__name__}: {error}".replace("\n", " ")
