"""What a core of this process acquires, refocused here: the napari widget's other source of frames.

It is told and asked as a publisher's stream is, and nothing is published for it.
"""

import logging
import threading
import time
from typing import TYPE_CHECKING, Any

from refocus.acquisition.hook import attach
from refocus.acquisition.pipeline.frame import FrameResult
from refocus.acquisition.pipeline.sink import RunInfo
from refocus.acquisition.pipeline.stats import Stats
from refocus.acquisition.sinks.headers import frame_header, run_header, stats_fields
from refocus.configs import sentence_of
from refocus.stream.messages import EndHeader, StatsHeader
from refocus.stream.subscriber import ReceivedFrame
from refocus.view.stream_state import StreamState

if TYPE_CHECKING:
    from pathlib import Path

    from pymmcore_plus import CMMCorePlus

    from refocus.engine.protocol import Engine

logger = logging.getLogger("refocus.view")

HERE = "the microscope of this napari"
KEPT_BYTES = 128_000_000
"""Of frames that can be chosen: fewer than a viewer beside it keeps, as it is the acquisition's
memory."""
PATIENCE_S = 30.0


class AttachedCore(StreamState):
    """Refocuses what a core acquires, live view included, from ``start`` to ``close``.

    Parameters
    ----------
    core
        Left alone but for listening to it, see :func:`refocus.acquisition.attach`.
    engine
        ``"auto"``, the name of an engine, a model file, or an engine.
    publish
        ZeroMQ endpoint to publish on, too; None for none.
    options
        Further ones of ``attach``, such as ``refocus_z`` and ``region``.
    """

    def __init__(
        self,
        core: "CMMCorePlus",
        engine: "str | Path | Engine" = "auto",
        publish: str | None = None,
        **options: Any,
    ) -> None:
        super().__init__(HERE, one_clock=True, budget=KEPT_BYTES)
        self.obstacle = "opening the engine"
        self._core = core
        asked = {"engine": engine, "publish": publish, "publish_raw": True, **options}
        self._options = {"queue": 2, **asked}  # whoever looks wants the present
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="refocus-napari", daemon=True)

    def start(self) -> None:
        """Open the engine and attach, on a thread of its own: it takes seconds."""
        self._thread.start()

    def close(self) -> None:
        """Detach once the frames already taken are done; does not wait. May be called twice."""
        self._stopped.set()

    def _follow(self) -> None:
        try:
            live = attach(self._core, sinks=[_Note(self)], **self._options)
        except Exception as error:
            logger.debug("traceback", exc_info=True)
            self.obstacle = sentence_of(error)
            return
        self.obstacle = ""
        self.note(None, "connected")
        self._stopped.wait()
        live.detach(timeout=PATIENCE_S)


class _Note:
    """A sink that tells a state what a reader of a publisher would be told."""

    def __init__(self, state: StreamState) -> None:
        self._state = state
        self._run = ""
        self._next_number = 0

    def start(self, run: RunInfo) -> None:
        self._run, self._next_number = run.run, 0
        self._state.note(run_header(run, 0))

    def put(self, result: FrameResult) -> None:
        self._next_number = result.number + 1
        age_ms = (time.perf_counter_ns() - result.captured.captured_ns) / 1e6
        try:
            header = frame_header(self._run, result, age_ms)
        except ValueError as error:  # of pydantic: not shown, and all the same refocused
            logger.error("frame %d is not shown: %s", result.captured.frame, error)
            return
        self._state.note(ReceivedFrame(header, result.pixels, result.captured.pixels, 0))

    def tick(self, stats: Stats) -> None:
        if stats.run == self._run:
            self._state.note(StatsHeader(**stats_fields(stats, self._next_number)))

    def close(self, stats: Stats) -> None:
        self._run = ""  # it still ticks
        self._state.note(EndHeader(**stats_fields(stats, self._next_number)))
