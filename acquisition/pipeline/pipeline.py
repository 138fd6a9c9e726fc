"""From the acquisition thread to the sinks: one bounded queue and one worker.

Responsibilities
----------------
- ``Pipeline`` owns three threads: the worker, the only one that runs the engine and calls
  ``start``, ``put``, ``skip`` and ``close`` of the sinks; the
  :mod:`~refocus.acquisition.pipeline.ticker`; and, where files are written, the
  :mod:`~refocus.acquisition.pipeline.disk_watch`.
- Runs are served one after another; the next may begin while the last one drains. What is done
  for each frame is in :mod:`refocus.acquisition.pipeline.worker`.
- Deferred frames are refocused when nothing else is waiting, and once a run is over.
- An engine, or a sink, that does not return is given up, and its run with it.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from refocus.acquisition.pipeline.arrival import Described
from refocus.acquisition.pipeline.deferred import DeferredFrames
from refocus.acquisition.pipeline.disk_watch import DiskWatch
from refocus.acquisition.pipeline.events import LiveEvents
from refocus.acquisition.pipeline.frame import CapturedFrame, read_only
from refocus.acquisition.pipeline.processing import Processing
from refocus.acquisition.pipeline.queue import FrameQueue, make_policy
from refocus.acquisition.pipeline.raw_data import RawFrames
from refocus.acquisition.pipeline.run import Run
from refocus.acquisition.pipeline.sink import RunInfo, Sink, Ticking
from refocus.acquisition.pipeline.stats import Stats
from refocus.acquisition.pipeline.ticker import Ticker, emit
from refocus.acquisition.pipeline.worker import Worker
from refocus.configs import RefocusError, sentence_of
from refocus.configs.light_path import KnownOptics
from refocus.configs.live_config import DEFAULTS
from refocus.engine.protocol import UNKNOWN, Engine, LightPath
from refocus.engine.refocuser import OnDistrust, Refocuser
from refocus.engine.region import Region

__all__ = ["Pipeline", "Run", "RunInfo", "Sink", "Ticking"]

logger = logging.getLogger("refocus.acquisition")

PATIENCE_SECONDS = 120.0


class Pipeline:
    """Refocuses frames on a worker thread and hands the results to the sinks.

    Parameters
    ----------
    engine
        Refocuses one frame at a time. It is not closed here.
    sinks
        Receive every result, in this order.
    policy
        What happens when the queue is full; see :mod:`refocus.acquisition.pipeline.queue`. None is
        ``every`` where there is ``raw``, else ``newest``.
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
    on_distrust
        What is published where a result is not trusted.
    patience_seconds
        A frame that the engine and the sinks have not dealt with by then is given up, and its
        run with it. The acquisition goes on.
    optics
        What is told of the light path; its pixel size is that of every frame.
    processing
        What frames go through before they are published; None where nothing.
    light_path
        File that keeps what is believed of it from run to run.

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
        policy: str | None = DEFAULTS.policy,
        capacity: int = DEFAULTS.queue,
        throttle: bool = False,
        tick_seconds: float = 1.0,
        raw: RawFrames | None = None,
        channels: Mapping[str, Engine] | None = None,
        region: Region | None = DEFAULTS.region,
        on_distrust: OnDistrust = DEFAULTS.on_distrust,
        patience_seconds: float = PATIENCE_SECONDS,
        optics: KnownOptics = DEFAULTS.optics,
        processing: Processing | None = None,
        light_path: Path | None = DEFAULTS.light_path,
    ) -> None:
        self.events = LiveEvents()
        policy = policy or ("newest" if raw is None else "every")
        self._refocuser = Refocuser(
            engine, channels or {}, region, on_distrust, optics, light_path=light_path
        )
        self._pixel_size_um = optics.pixel_size_um
        self._optics = optics.model_dump(mode="json", exclude_defaults=True)
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
        self._deferring = policy == "every"
        self._processor = processing.name if processing else ""
        self._worker = Worker(
            self._refocuser,
            sinks,
            raw,
            self._deferring,
            self._pixel_size_um,
            processing=processing,
        )
        self._capacity = capacity
        self._patience_ns = int(patience_seconds * 1e9)
        self._runs: deque[Run] = deque()
        self._current: Run | None = None
        self._serving: Run | None = None
        self._closing = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._work, name="refocus-worker", daemon=True)
        self._thread.start()
        seconds = min(tick_seconds, patience_seconds)
        self._disk_watch = DiskWatch(raw, sinks, seconds, run=lambda: self._serving)
        self._ticker = Ticker(
            self.events,
            sinks,
            seconds,
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
        deferred = DeferredFrames() if self._deferring else None
        queue = self._make_queue(most or self._capacity)
        if self._pixel_size_um and info.camera:
            told = {"pixel_size_um": self._pixel_size_um}
            info = replace(info, camera={**info.camera, **told})
        info = replace(info, optics=self._optics, processor=self._processor)
        run = Run(info, queue, deferred, view=most is not None)
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
        shared = replace(frame, pixels=read_only(frame.pixels))
        self._current.queue.put(Described(shared))

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
        self._thread.join(timeout if in_time and not self._hanging() else 0.1)
        self._ticker.stop(timeout)
        self._disk_watch.stop()
        ended = in_time and not self._thread.is_alive()
        if ended:
            self._refocuser.keep_light_path()
        return ended

    def warm_up(
        self, shape: tuple[int, ...], dtype: np.dtype[Any], light_path: LightPath = UNKNOWN
    ) -> None:
        """Make the engines ready for such frames, once; see :meth:`Refocuser.warm_up`."""
        self._refocuser.warm_up(shape, dtype, light_path)

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
                self._worker.serve(run)
            except BaseException as error:  # the thread must live on for the runs to come
                logger.critical("run %s: the worker failed", run.info.run[:8], exc_info=True)
                lost = run.queue.give_up()
                run.problem(f"gave up on {lost} frames: the worker failed: {sentence_of(error)}")
            with run.guarded():
                self._close(run)

    def _close(self, run: Run) -> None:
        stats = self._worker.close(run)
        with self._changed:
            self._changed.notify_all()
        if stats is not None:
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
        since = self._worker.busy_since_ns
        return 0 < since < time.monotonic_ns() - self._patience_ns

    def _look_after(self) -> None:
        """Give up on an engine, or a sink, that does not return."""
        if self._hanging() and not self._drained():
            seconds = self._patience_ns / 1e9
            self._give_up(f"the engine or a sink has not returned for {seconds:g} s")
            emit(self.events.hung, self.stats)
