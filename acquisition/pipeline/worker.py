"""What the worker does with the frames of a run: describe, refocus, number, hand to the sinks.

Nothing that goes wrong in an engine or a sink leaves this module as an exception: it is counted,
logged once, kept in ``Run.problems``, and the run goes on.

All of it but the engine holds the GIL, and at thousands of frames per second the acquisition
thread is waiting for it. So there is little of it, and less for a frame that was dropped.
"""

import logging
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from refocus.acquisition.pipeline.deferred import Deferred
from refocus.acquisition.pipeline.frame import CapturedFrame, FrameResult, read_only
from refocus.acquisition.pipeline.processing import Processing
from refocus.acquisition.pipeline.queue import Fate, Taken, Task
from refocus.acquisition.pipeline.raw_data import RawFrames, RawZarr, read_back
from refocus.acquisition.pipeline.run import Run
from refocus.acquisition.pipeline.sink import Noting, Refused, Saving, Sink, Steering
from refocus.acquisition.pipeline.stats import Stats
from refocus.configs import RefocusError, sentence_of
from refocus.engine.protocol import Frame, LightPath, Refocused, Ticket
from refocus.engine.refocuser import Refocuser
from refocus.engine.trust.judgement import Judgement

logger = logging.getLogger("refocus.acquisition")

RAW_PATIENCE_S = 10.0
"""How long after the end of a run its raw data may still take to appear on the disk."""

PLAN_PATIENCE_S = 5.0
"""How long the end of a run waits for an irregular sequence to be counted."""


@dataclass(slots=True)
class UnderWay:
    """A frame between the queue and the sinks.

    Attributes
    ----------
    frame, task
        Which frame, and what is done with it.
    ticket
        Of the engine; None for a frame that is handed on as captured, or has no result.
    begun_ns
        When it was taken from the queue, ``perf_counter_ns``.
    gap
        Why there is no result; empty where there is to be one.
    late
        It was deferred.
    """

    frame: CapturedFrame
    task: Task
    ticket: Ticket | None
    begun_ns: int
    gap: str = ""
    late: bool = False


class Worker:
    """Serves one run at a time; it has no thread of its own, and is called on the pipeline's.

    Parameters
    ----------
    refocuser
        Refocuses a frame.
    sinks
        Receive every result, in this order.
    raw
        Gives deferred frames back, and is looked at once a run is over; None where nothing is
        saved.
    defer
        Whether there are to be deferred frames.
    pixel_size_um
        Of every frame, whatever the camera's configuration says; None for what it says.
    processing
        What frames go through before they are published; None where nothing.

    Attributes
    ----------
    busy_since_ns
        Since when it has been dealing with the present frame, ``monotonic_ns``; 0 while it waits.
    """

    def __init__(
        self,
        refocuser: Refocuser,
        sinks: Sequence[Sink],
        raw: RawFrames | None = None,
        defer: bool = False,
        pixel_size_um: float | None = None,
        *,
        processing: Processing | None = None,
    ) -> None:
        self._processing = processing
        self.busy_since_ns = 0
        self._refocuser = refocuser
        self._sinks = tuple(sinks)
        self._steering = next((sink for sink in sinks if isinstance(sink, Steering)), None)
        self._raw = raw
        self._defer = defer
        self._pixel_size_um = pixel_size_um

    def serve(self, run: Run) -> None:
        """Deal with a run from its first frame to its last, or until it is given up."""
        self.busy_since_ns = time.monotonic_ns()
        self._start(run)
        self.busy_since_ns = 0
        line: deque[UnderWay] = deque()  # in order of capture
        while not run.over.is_set():
            if line and len(line) >= self._refocuser.overlap:
                self._finish(run, line.popleft())
                continue
            taken = run.queue.take(
                busy=bool(line) or run.has_deferred, patience=0.0 if line else run.raw_patience
            )
            if taken is None:
                return
            self.busy_since_ns = time.monotonic_ns()
            if isinstance(taken, Taken):
                self._begin(run, taken, line)
            elif line and not (line[-1].late and run.has_deferred):
                self._finish(run, line.popleft())
            else:
                self._resume(run, line)
            self.busy_since_ns = 0
            del taken  # an idle worker must not hold the pixels of the last frame

    def _start(self, run: Run) -> None:
        camera = run.info.camera
        try:
            if {"height", "width", "dtype"} <= camera.keys():
                shape = camera.get("shape", (camera["height"], camera["width"]))
                self._refocuser.warm_up(
                    tuple(shape),
                    np.dtype(camera["dtype"]),
                    LightPath(camera.get("pixel_size_um", 0.0)),
                )
            if self._raw is not None and not run.view:
                self._raw.start(run.info)
        except Exception as error:
            run.problem(f"the engine did not warm up: {sentence_of(error)}")
        if self._processing is not None:
            self._processing.start()
        if self._defer:
            from refocus.acquisition.pipeline.layout import Places

            run.place = Places(run.info).of
        for sink in self._sinks:
            run.sinks.append(sink)
            self._call(run, sink, "start", run.info)
        run.noting = [sink for sink in run.sinks if isinstance(sink, Noting)]
        run.ready.set()

    def _begin(self, run: Run, taken: Taken, line: deque[UnderWay]) -> None:
        """Describe a frame and send it to the engine, or set it aside."""
        arrival, nothing = taken.arrival, bool(taken.gap) or taken.deferred
        begun = time.perf_counter_ns()
        try:
            if nothing and not (taken.deferred or run.noting or run.place is not None):
                arrival.note()
                return
            frame = arrival.describe()
            if self._pixel_size_um:
                frame = replace(frame, pixel_size_um=self._pixel_size_um)
            if run.place is not None:
                frame = replace(frame, place=run.place(frame))
            if taken.deferred and run.deferred is not None:
                run.deferred.add(Deferred(frame, taken.task, taken.sample))
                return
        except Exception as error:
            run.problem(f"metadata of a frame not understood: {sentence_of(error)}")
            if taken.deferred:
                run.queue.resume(taken.task)
            if not taken.gap:
                run.queue.settle(taken.task, Fate.FAILED)
            return
        if taken.gap:
            line.append(UnderWay(frame, taken.task, None, begun, gap=taken.gap))
        else:
            line.append(self._submitted(frame, taken.task, begun))

    def _resume(self, run: Run, line: deque[UnderWay]) -> None:
        """Take up the oldest deferred frame, if the raw data hold it already."""
        assert run.deferred is not None
        assert self._raw is not None
        deferred, begun = run.deferred.first(), time.perf_counter_ns()
        try:
            pixels = read_back(self._raw, deferred)
        except Exception as error:
            run.problem(f"raw data not read back: {sentence_of(error)}")
            pixels = None
        now = time.monotonic_ns()
        if pixels is None and not (run.queue.over and now > run.raw_until_ns > 0):
            run.raw_patience = 0.05
            if run.queue.over and not run.raw_until_ns:
                run.raw_until_ns = now + int(RAW_PATIENCE_S * 1e9)
            if line:
                self._finish(run, line.popleft())
            return
        run.raw_patience = 0.0
        run.deferred.drop_first()
        if not run.queue.resume(deferred.task):
            return
        if pixels is None:
            text = "deferred frame not found in the raw data: see that they are saved"
            run.problem(text)
            run.queue.settle(deferred.task, Fate.FAILED)
            self._skip(run, deferred.frame, f"failed: {text}")
        else:
            frame = replace(deferred.frame, pixels=read_only(pixels))
            line.append(self._submitted(frame, deferred.task, begun, late=True))

    def _submitted(
        self, frame: CapturedFrame, task: Task, begun_ns: int, late: bool = False
    ) -> UnderWay:
        """Send a frame to the engine; what goes wrong there is told when its turn comes."""
        ticket: Ticket | None = None
        if task is Task.REFOCUS:
            try:
                ticket = self._refocuser.submit(
                    frame.pixels,
                    frame.channel,
                    LightPath(frame.pixel_size_um),
                    frame.bit_depth,
                    frame.position,
                    frame.z_um,
                )
            except BaseException as error:
                ticket = _raising(error)
        return UnderWay(frame, task, ticket, begun_ns, late=late)

    def _finish(self, run: Run, under_way: UnderWay) -> None:
        """Wait for the engine, and hand the result to the sinks."""
        self.busy_since_ns = time.monotonic_ns()
        frame, task = under_way.frame, under_way.task
        if under_way.gap:
            self._skip(run, frame, under_way.gap)
        else:
            try:
                done = under_way.ticket() if under_way.ticket else None
            except BaseException as error:  # an engine's own kind must not end the worker
                run.problem(f"frame not refocused: {sentence_of(error)}")
                if run.queue.settle(task, Fate.FAILED):
                    self._skip(run, frame, f"failed: {sentence_of(error)}")
            else:
                if not run.over.is_set():  # else given up meanwhile
                    self._publish(run, under_way, done)
        self.busy_since_ns = 0

    def _publish(self, run: Run, under_way: UnderWay, done: Refocused | None) -> None:
        frame, begun = under_way.frame, under_way.begun_ns
        engine_ms = (time.perf_counter_ns() - begun) / 1e6
        judgement = done.judgement if done else None
        pixels, processor = self._process(
            run, under_way, read_only(done.pixels) if done else frame.pixels
        )
        result = FrameResult(
            captured=frame,
            pixels=pixels,
            refocused=done is not None,
            number=run.number,
            queued_ms=(begun - frame.captured_ns) / 1e6,
            engine_ms=engine_ms if done else 0.0,
            engine=done.engine if done else None,
            judgement=judgement,
            decision=self._decide(run, frame, judgement),
            processor=processor,
        )
        run.number += 1
        taken = [self._call(run, sink, "put", result) for sink in tuple(run.sinks)]
        # a sink that failed, now or earlier in this run, has not got it
        whole = all(taken) and len(run.sinks) == len(self._sinks)
        if done is not None:
            run.first_ns = run.first_ns or frame.captured_ns
            run.last_ns = time.perf_counter_ns()
            run.engine_ms.add(engine_ms)
            if not under_way.late:
                run.latency_ms.add((run.last_ns - frame.captured_ns) / 1e6)
            run.verdicts[done.judgement.verdict] += whole
        run.queue.settle(under_way.task, Fate.PUBLISHED if whole else Fate.FAILED)

    def _process(self, run: Run, under_way: UnderWay, pixels: Frame) -> tuple[Frame, str]:
        """Give what the processor makes of the pixels, and its name; what it fails on is captured.

        A deferred frame comes without those before it.
        """
        processing, frame = self._processing, under_way.frame
        if processing is None:
            return pixels, ""
        try:
            if under_way.late and processing.takes > 1:
                raise RefocusError("a deferred frame comes without those before it")
            made = processing.apply(frame, pixels)
            return (pixels, "") if made is None else (made, processing.name)
        except BaseException as error:  # a processor's own kind must not end the worker
            run.unprocessed += 1
            run.problem(
                f"the processor {processing.name} failed, a frame is published as "
                f"captured: {sentence_of(error)}"
            )
            return frame.pixels, ""

    def _decide(
        self, run: Run, frame: CapturedFrame, judgement: Judgement | None
    ) -> Mapping[str, Any] | None:
        """Ask whoever steers the acquisition what is done about a frame."""
        try:
            return self._steering.decide(frame, judgement) if self._steering else None
        except Exception as error:
            run.problem(f"nothing decided about a frame: {sentence_of(error)}")
            return None

    def _skip(self, run: Run, frame: CapturedFrame, reason: str) -> None:
        for sink in tuple(run.noting):
            self._call(run, sink, "skip", frame, reason)

    def _call(self, run: Run, sink: Sink, method: str, *args: Any) -> bool:
        try:
            getattr(sink, method)(*args)
        except Refused as error:
            run.problem(str(error))
            return False
        except BaseException as error:  # a sink's own kind must not end the worker
            logger.debug("traceback", exc_info=True)
            run.problem(f"{type(sink).__name__} left out of the run: {sentence_of(error)}")
            if sink in run.sinks:
                run.sinks.remove(sink)
                run.noting = [other for other in run.noting if other is not sink]
            return False
        return True

    def close(self, run: Run) -> Stats | None:
        """Close the sinks of a run, on any thread; None if that was done before."""
        with run.closing:
            if run.over.is_set():
                return None
            run.ready.set()
            run.plan.wait(PLAN_PATIENCE_S)
            stats = run.stats()
            try:
                stats.check()
            except AssertionError:
                logger.critical("run %s: accounts", run.info.run[:8], exc_info=True)
            saving = [sink for sink in self._sinks if isinstance(sink, Saving)]
            others = [sink for sink in self._sinks if sink not in saving]
            for one in saving:
                self._call(run, one, "close", stats)
            self._look_at_files(run, saving)
            stats = run.stats()
            for sink in others:
                self._call(run, sink, "close", stats)
            if run.deferred is not None:
                with run.guarded():  # closing writes what a full disk has not taken
                    run.deferred.close()
            run.over.set()
        for text, count in tuple(run.problems.items()):
            if count > 1:
                logger.error("run %s: %d times: %s", run.info.run[:8], count, text)
        return stats

    def _look_at_files(self, run: Run, sinks: Sequence[Saving]) -> None:
        """Read again what was saved, and tell of what is not there."""
        try:
            if isinstance(self._raw, RawZarr) and not (run.view or run.raw_elsewhere):
                patience_s = 0.0 if run.raw_closed else RAW_PATIENCE_S
                if raw := self._raw.saved(*run.plan.by_place(), patience_s):
                    run.saved["raw"] = raw.report("received")
            for sink in sinks:
                if refocused := sink.saved():
                    run.saved["refocused"] = refocused.report("published")
            if run.saved:
                from refocus.acquisition.pipeline.on_disk import not_on_disk

                for text in not_on_disk(run.saved):
                    run.problem(text)
        except Exception as error:
            run.problem(f"what was saved could not be looked at: {sentence_of(error)}")


def _raising(error: BaseException) -> Ticket:
    """Make a ticket that raises."""

    def ticket() -> Refocused:
        raise error

    return ticket
