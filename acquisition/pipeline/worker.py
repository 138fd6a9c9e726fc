"""What the worker does with the frames of a run: describe, refocus, number, hand to the sinks.

Nothing that goes wrong in an engine or a sink leaves this module as an exception: it is counted,
logged once, kept in ``Run.problems``, and the run goes on.

All of it but the engine holds the GIL, and at thousands of frames per second the acquisition
thread is waiting for it. So there is little of it, and less for a frame that was dropped.
"""

import logging
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from refocus.acquisition.pipeline.deferred import Debt
from refocus.acquisition.pipeline.frame import CapturedFrame, FrameResult
from refocus.acquisition.pipeline.queue import Fate, Taken, Task
from refocus.acquisition.pipeline.raw_data import RawFrames, read_back
from refocus.acquisition.pipeline.run import Run
from refocus.acquisition.pipeline.sink import Noting, Sink
from refocus.acquisition.pipeline.stats import Stats
from refocus.configs import RefocusError
from refocus.engine.refocuser import Refocused, Refocuser

logger = logging.getLogger("refocus.acquisition")

RAW_PATIENCE_S = 10.0
"""How long after the end of a run its raw data may still take to appear on the disk."""


class Worker:
    """Serves one run at a time; it has no thread of its own, and is called on the pipeline's.

    Parameters
    ----------
    refocuser
        Refocuses a frame.
    sinks
        Receive every result, in this order.
    raw
        Gives deferred frames back; None where there are to be none.

    Attributes
    ----------
    busy_since_ns
        Since when it has been dealing with the present frame, ``monotonic_ns``; 0 while it waits.
    """

    def __init__(
        self, refocuser: Refocuser, sinks: Sequence[Sink], raw: RawFrames | None = None
    ) -> None:
        self.busy_since_ns = 0
        self._refocuser = refocuser
        self._sinks = tuple(sinks)
        self._raw = raw

    def serve(self, run: Run) -> None:
        """Deal with a run from its first frame to its last, or until it is given up."""
        self._start(run)
        take, owing = run.queue.take, run.debts is not None
        while not run.over.is_set():
            taken = take(run.owing, run.raw_patience) if owing else take()
            if taken is None:
                return
            self.busy_since_ns = time.monotonic_ns()
            if isinstance(taken, Taken):
                self._deal_with(run, taken)
            else:
                self._pay(run)
            self.busy_since_ns = 0
            del taken  # an idle worker must not hold the pixels of the last frame

    def _start(self, run: Run) -> None:
        camera = run.info.camera
        try:
            if {"height", "width", "dtype"} <= camera.keys():
                shape = camera.get("shape", (camera["height"], camera["width"]))
                self._refocuser.warm_up(
                    tuple(shape), np.dtype(camera["dtype"]), camera.get("pixel_size_um", 0.0)
                )
            if self._raw is not None:
                self._raw.start(run.info)
        except Exception as error:
            run.problem(f"the engine did not warm up: {_text(error)}")
        if self._raw is not None:
            from refocus.acquisition.pipeline.layout import Places

            run.place = Places(run.info).of
        for sink in self._sinks:
            run.sinks.append(sink)
            self._call(run, sink, "start", run.info)
        run.noting = [sink for sink in run.sinks if isinstance(sink, Noting)]
        run.ready.set()

    def _deal_with(self, run: Run, taken: Taken) -> None:
        arrival, nothing = taken.arrival, bool(taken.gap) or taken.deferred
        try:
            if nothing and not (taken.deferred or run.noting or run.place is not None):
                arrival.note()
                return
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
            self._skip(run, frame, taken.gap)
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
            self._skip(run, debt.frame, f"failed: {text}")
        else:
            self._publish(run, replace(debt.frame, pixels=pixels), debt.task, late=True)

    def _publish(self, run: Run, frame: CapturedFrame, task: Task, late: bool = False) -> None:
        begun = time.perf_counter_ns()
        done: Refocused | None = None
        try:
            if task is Task.REFOCUS:
                done = self._refocuser.refocus(frame.pixels, frame.channel, frame.pixel_size_um)
        except Exception as error:
            run.problem(f"frame not refocused: {_text(error)}")
            if run.queue.settle(Fate.FAILED):
                self._skip(run, frame, f"failed: {_text(error)}")
            return
        if run.over.is_set():
            return  # given up meanwhile
        engine_ms = (time.perf_counter_ns() - begun) / 1e6
        result = FrameResult(
            captured=frame,
            pixels=done.pixels if done else frame.pixels,
            refocused=done is not None,
            number=run.number,
            queued_ms=(begun - frame.captured_ns) / 1e6,
            engine_ms=engine_ms if done else 0.0,
            engine=done.engine if done else None,
            judgement=done.judgement if done else None,
        )
        run.number += 1
        for sink in tuple(run.sinks):
            self._call(run, sink, "put", result)
        if done is not None:
            run.first_ns = run.first_ns or frame.captured_ns
            run.last_ns = time.perf_counter_ns()
            run.engine_ms.add(engine_ms)
            if not late:
                run.latency_ms.add((run.last_ns - frame.captured_ns) / 1e6)
        # a sink that failed, now or earlier in this run, has not got it
        whole = len(run.sinks) == len(self._sinks)
        if done is not None:
            run.verdicts[done.judgement.verdict] += whole
        run.queue.settle(Fate.PUBLISHED if whole else Fate.FAILED)

    def _skip(self, run: Run, frame: CapturedFrame, reason: str) -> None:
        for sink in tuple(run.noting):
            self._call(run, sink, "skip", frame, reason)

    def _call(self, run: Run, sink: Sink, method: str, *args: Any) -> None:
        try:
            getattr(sink, method)(*args)
        except Exception as error:
            logger.debug("traceback", exc_info=True)
            run.problem(f"{type(sink).__name__} left out of the run: {_text(error)}")
            if sink in run.sinks:
                run.sinks.remove(sink)
                run.noting = [other for other in run.noting if other is not sink]

    def close(self, run: Run) -> Stats | None:
        """Close the sinks of a run, on any thread; None if that was done before."""
        with run.closing:
            if run.over.is_set():
                return None
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
        for text, count in run.problems.items():
            if count > 1:
                logger.error("run %s: %d times: %s", run.info.run[:8], count, text)
        return stats


def _text(error: Exception) -> str:
    """Say an error in one line: a sentence for the user as it is, anything else with its type."""
    if isinstance(error, RefocusError):
        return str(error)
    return f"{type(error).__name__}: {error}".replace("\n", " ")
