"""One acquisition on its way through the pipeline: its queue, its numbers, what went wrong."""

import logging
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from refocus.acquisition.pipeline.deferred import DeferredFrames
from refocus.acquisition.pipeline.plan import Plan
from refocus.acquisition.pipeline.queue import FrameQueue
from refocus.acquisition.pipeline.sink import RunInfo, Sink
from refocus.acquisition.pipeline.stats import Durations, Stats
from refocus.configs import sentence_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from refocus.acquisition.pipeline.frame import CapturedFrame

logger = logging.getLogger("refocus.acquisition")

KINDS_OF_PROBLEMS = 50
"""As many are kept and logged by their own words; a long run must not fill memory or the log."""


class Run:
    """One acquisition, as the worker serves it.

    Attributes
    ----------
    info
        What is known of it.
    queue
        Its frames and their accounts.
    deferred
        Its deferred frames; None where there are to be none.
    view
        Whether it is a live view, where it is all right to miss frames.
    problems
        What went wrong, each kind once, with its count.
    verdicts
        How many published frames got which verdict.
    unprocessed
        Published frames that the processor failed on.
    camera_gaps
        Tells how many frames the camera numbered and never delivered.
    plan
        What is to come of it, and what came so far.
    saved
        What its files hold, once that was looked at.
    passed
        Why frames of it were handed on as they were captured, each reason once.
    raw_closed
        Whether the acquisition has closed its raw data.
    raw_elsewhere
        Whether the acquisition is known not to save where raw data were said to be.
    gone
        What was removed of the raw data while they were being written; empty while nothing was.
    place
        Gives a frame's place in the sequence; None where nobody needs it.
    sinks
        Those that have not failed.
    noting
        Those of them that are told of frames without result.
    ready
        Set once the engine is warm and the sinks have started.
    over
        Set once the last frame is settled and the sinks are closed.
    """

    def __init__(
        self,
        info: RunInfo,
        queue: FrameQueue,
        deferred: DeferredFrames | None = None,
        view: bool = False,
    ) -> None:
        self.info = info
        self.view = view
        self.queue = queue
        self.deferred = deferred
        self.problems: Counter[str] = Counter()
        self.camera_gaps: Callable[[], int] = int
        self.plan = Plan()
        self.saved: dict[str, Any] = {}
        self.passed: Sequence[str] = ()
        self.raw_closed = False
        self.raw_elsewhere = False
        self.gone = ""
        self.place: Callable[[CapturedFrame], int | None] | None = None
        self.ready = threading.Event()
        self.over = threading.Event()
        self.number = 0
        self.verdicts: Counter[str] = Counter()
        self.unprocessed = 0
        self.latency_ms = Durations()
        self.engine_ms = Durations()
        self.callback_us = Durations()
        self.first_ns = 0
        self.last_ns = 0
        self.sinks: list[Sink] = []
        self.noting: list[Sink] = []
        self.closing = threading.Lock()
        self.raw_until_ns = 0
        self.raw_patience = 0.0

    @property
    def has_deferred(self) -> bool:
        """Whether there are deferred frames."""
        return self.deferred is not None and len(self.deferred) > 0

    def stats(self) -> Stats:
        """Take its counts and times at this moment."""
        counts = self.queue.counts()
        seconds = (self.last_ns - self.first_ns) / 1e9
        return Stats(
            run=self.info.run,
            capacity=self.queue.capacity,
            camera_gaps=self.camera_gaps(),
            planned=self.plan.planned,
            saved=self.saved,
            fps=counts.published / seconds if seconds > 0 else 0.0,
            latency_ms=self.latency_ms.timing(),
            engine_ms=self.engine_ms.timing(),
            callback_us=self.callback_us.timing(),
            verdicts=dict(self.verdicts),
            unprocessed=self.unprocessed,
            **vars(counts),
        )

    @contextmanager
    def guarded(self) -> Iterator[None]:
        """Make a problem of whatever is raised within: the thread must live on."""
        try:
            yield
        except BaseException as error:
            logger.debug("traceback", exc_info=True)
            self.problem(sentence_of(error))

    def problem(self, text: str) -> None:
        """Count and log something that went wrong; only the first of a kind is an error line."""
        if len(self.problems) >= KINDS_OF_PROBLEMS and text not in self.problems:
            text = "further problems, each of a kind of its own"
        self.problems[text] += 1
        level = logging.ERROR if self.problems[text] == 1 else logging.DEBUG
        logger.log(level, "run %s: %s", self.info.run[:8], text)
