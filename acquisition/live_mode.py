"""The live view, refocused: frames of a continuous acquisition, which has no event per frame.

The newest frame is peeked at, twice per exposure, and told from the one before by its number;
nothing is taken from the core's ring, so that other previews go on undisturbed. Of the live view
at most two frames wait for the engine: it shows the present, not a backlog.
"""

import logging
import threading
import time
import uuid
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from refocus.acquisition.pipeline.arrival import Described, RunContext
from refocus.acquisition.pipeline.frame import CapturedFrame, read_only
from refocus.acquisition.pipeline.pipeline import Pipeline, Run
from refocus.acquisition.pipeline.sink import RunInfo
from refocus.acquisition.selection import Chooser, Selection
from refocus.acquisition.signals import connect_direct
from refocus.engine.protocol import Engine, Frame

if TYPE_CHECKING:
    from collections.abc import Callable

    from pymmcore_plus import CMMCorePlus

logger = logging.getLogger("refocus.acquisition")

WAITING = 2
SHORTEST_S, LONGEST_S = 0.001, 0.05
"""Between two looks at the ring."""


class LiveMode:
    """Feeds a pipeline from a core's live view, a run for each time that it is switched on.

    Parameters
    ----------
    core
        Whose ``startContinuousSequenceAcquisition`` to follow, from now until ``disconnect``.
    pipeline
        Takes the frames.
    engine
        Its description is part of every run's.
    selection
        Which frames are refocused.
    tell
        Is told what is handed on as captured, see :class:`refocus.acquisition.selection.Chooser`.
    """

    def __init__(
        self,
        core: "CMMCorePlus",
        pipeline: Pipeline,
        engine: Engine,
        selection: Selection,
        tell: "Callable[[str], None]" = lambda why: None,
    ) -> None:
        self._core = core
        self._pipeline = pipeline
        self._engine = engine
        self._selection = selection
        self._tell = tell
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()
        events = core.events
        self._slots: list[tuple[Any, Callable[..., None]]] = [
            (events.continuousSequenceAcquisitionStarted, self._on_started),
            (events.sequenceAcquisitionStopped, self._on_stopped),
        ]
        for signal, slot in self._slots:
            connect_direct(signal, slot)

    def acquiring(self) -> bool:
        """Whether the live view is on."""
        return self._thread is not None and self._thread.is_alive() and not self._stop.is_set()

    def finish(self) -> None:
        """Wait until the run of a live view that was switched off is finished."""
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()

    def disconnect(self) -> None:
        """Stop looking. May be called twice."""
        for signal, slot in self._slots:
            signal.disconnect(slot)
        self._slots.clear()
        self._stop.set()
        self.finish()

    def _on_started(self) -> None:
        if self._core.mda.is_running():
            return
        self._stop.set()
        self._stop = threading.Event()
        self._thread = threading.Thread(
            target=self._watch, args=(self._stop,), name="refocus-live-view", daemon=True
        )
        self._thread.start()

    def _on_stopped(self, camera: str = "") -> None:
        if not self._core.mda.is_running():
            self._stop.set()

    # -- on a thread of its own

    def _watch(self, stop: threading.Event) -> None:
        run: Run | None = None
        try:
            context = RunContext({})
            run = self._pipeline.start(self._describe(), most=WAITING)
            run.camera_gaps = lambda: context.camera_gaps
            chooser = Chooser(self._selection, tell=self._tell)
            run.passed = chooser.passed
            frame, last = 0, -1
            while not stop.wait(self._pause_s()) and not run.queue.over:
                found = self._peek()
                if found is None or found[1] == last:
                    continue
                pixels, last = found
                captured = self._captured(pixels, frame)
                context.count(captured.camera, {"ImageNumber": last})
                run.queue.put(Described(captured), *chooser.choose(captured.channel, {}))
                frame += 1
        except Exception:
            logger.exception("the live view is no longer refocused")
        finally:
            if run is not None:
                run.queue.finish()

    def _pause_s(self) -> float:
        return min(max(self._core.getExposure() / 2000, SHORTEST_S), LONGEST_S)

    def _peek(self) -> tuple[Frame, int] | None:
        """Give the newest frame and its number; None where there is none yet."""
        try:
            pixels, meta = self._core.getLastImageAndMD()
            return np.asarray(pixels), int(meta["ImageNumber"])
        except (IndexError, KeyError, RuntimeError, ValueError):
            return None

    def _captured(self, pixels: Frame, frame: int) -> CapturedFrame:
        core = self._core
        now, utc = time.perf_counter_ns(), datetime.now(UTC)
        bits = core.getImageBitDepth() or pixels.dtype.itemsize * 8
        return CapturedFrame(
            pixels=read_only(pixels),
            frame=frame,
            captured_utc=utc.isoformat(timespec="microseconds"),
            captured_ns=now,
            index={"t": frame},
            channel=self._channel(),
            pixel_size_um=core.getPixelSizeUm(True),
            exposure_ms=core.getExposure(),
            camera=core.getCameraDevice(),
            bit_depth=min(bits, pixels.dtype.itemsize * 8),
        )

    def _channel(self) -> str:
        group = self._core.getChannelGroup()
        try:
            return str(self._core.getCurrentConfigFromCache(group)) if group else ""
        except RuntimeError:
            return ""

    def _describe(self) -> RunInfo:
        from pymmcore_plus.metadata.functions import image_info

        camera = RunContext({"image_infos": [image_info(self._core)]}).camera()
        return RunInfo(
            run=str(uuid.uuid4()),
            camera=camera,
            engine=self._engine.info.describe_fully(),
            policy=self._pipeline.policy,
        )
