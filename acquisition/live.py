"""What ``attach`` gives back: a core whose frames are being refocused."""

import os
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self

from refocus.acquisition.pipeline.events import LiveEvents
from refocus.acquisition.pipeline.pipeline import Pipeline
from refocus.acquisition.pipeline.sink import RunInfo
from refocus.acquisition.pipeline.stats import Stats
from refocus.engine.protocol import Engine

if TYPE_CHECKING:
    from pymmcore_plus import CMMCorePlus

    from refocus.acquisition.raw_guard import Guard
    from refocus.acquisition.sinks.publisher import Publisher


class CoreListener(Protocol):
    """Brings the frames of a core to a pipeline."""

    def acquiring(self) -> bool:
        """Whether frames are coming, or about to."""
        ...

    def finish(self) -> None:
        """End the run in progress, if nobody else has."""
        ...

    def disconnect(self) -> None:
        """Stop listening. May be called twice."""
        ...


class Live:
    """A core whose frames are being refocused; made by :func:`refocus.acquisition.attach`.

    As a context manager it waits, on leaving, for the acquisition to end and for every frame of
    it to be dealt with; a live view that is still on is left alone. Ctrl-C cancels the acquisition
    first; any other exception does not.

    Attributes
    ----------
    publisher
        The ZeroMQ publisher, or None.
    engine
        The engine in use.
    guard
        Looks at each raw frame before it is saved; None where nobody knows where that is.
    """

    def __init__(
        self,
        core: "CMMCorePlus",
        pipeline: Pipeline,
        engine: Engine,
        *,
        hooks: Sequence[CoreListener],
        publisher: "Publisher | None",
        guard: "Guard | None" = None,
        release: Callable[[], None],
    ) -> None:
        self.engine = engine
        self.publisher = publisher
        self.guard = guard
        self._core = core
        self._pipeline = pipeline
        self._hooks = hooks
        self._release: Callable[[], None] | None = release
        self._process = os.getpid()

    @property
    def stats(self) -> Stats:
        """Counts and times of the acquisition in progress, or of the last one."""
        return self._pipeline.stats()

    @property
    def events(self) -> LiveEvents:
        """Signals: alarms of the queue, the stats of every second, the end of a run."""
        return self._pipeline.events

    @property
    def run(self) -> RunInfo | None:
        """Description of the acquisition in progress, or of the last one."""
        return self._pipeline.run.info if self._pipeline.run else None

    @property
    def problems(self) -> dict[str, int]:
        """What went wrong in it, each kind with its count; empty if all went well."""
        return dict(self._pipeline.run.problems) if self._pipeline.run else {}

    @property
    def plan(self) -> dict[str, Any] | None:
        """What its sequence planned against what came: ``planned, received, missing, short``.

        ``short`` lists the positions and channels of which frames are missing. None where nobody
        knows how many frames there are to be.
        """
        return self._pipeline.run.plan.report() if self._pipeline.run else None

    @property
    def passed(self) -> tuple[str, ...]:
        """Why frames of it were handed on as captured, and what would have them refocused."""
        return tuple(self._pipeline.run.passed) if self._pipeline.run else ()

    @property
    def gone(self) -> str:
        """What was removed of its raw data while they were written; empty where nothing was."""
        return self._pipeline.run.gone if self._pipeline.run else ""

    @property
    def owed(self) -> int:
        """How many frames that came are still to be handed on, refocused or as captured."""
        return self._pipeline.run.queue.owed if self._pipeline.run else 0

    @property
    def endpoint(self) -> str | None:
        """Where results are published, with the port that was chosen for ``:*``."""
        return self.publisher.endpoint if self.publisher else None

    def wait_subscribers(self, count: int, timeout: float | None = None) -> bool:
        """Wait until that many readers have joined, so that they get frame 0; False on timeout."""
        return self.publisher is None or self.publisher.wait_subscribers(count, timeout)

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for the acquisition to end and for all its frames; False after ``timeout`` s.

        A live view that is on is not waited for.
        """
        until = time.monotonic() + timeout if timeout is not None else None
        while self._hooks[0].acquiring():
            if until is not None and time.monotonic() >= until:
                return False
            time.sleep(0.01)
        for hook in self._hooks:
            if not hook.acquiring():
                hook.finish()
        if any(hook.acquiring() for hook in self._hooks):
            return True
        return self._pipeline.drain(None if until is None else max(0.0, until - time.monotonic()))

    def detach(self, timeout: float | None = None) -> None:
        """Stop listening, deal with the frames already taken, and let go of everything.

        The acquisition itself is left alone. May be called twice.

        Parameters
        ----------
        timeout
            How many seconds the frames may take; those left then are counted as lost.
        """
        if self._is_a_fork():
            return
        for hook in self._hooks:
            hook.disconnect()
        in_time = self._pipeline.close(timeout)
        release, self._release = self._release, None
        if release is None:
            return
        if in_time:
            release()
        elif self.publisher is not None:  # an engine that hangs cannot be closed
            self.publisher.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._is_a_fork():
            return
        try:
            if kind is not None and not issubclass(kind, Exception):
                self._cancel()
            try:
                self.wait()
            except KeyboardInterrupt:
                self._cancel()
                raise
        finally:
            self.detach()

    def _is_a_fork(self) -> bool:
        """Whether this is a child of the process that attached: it has none of the threads."""
        return os.getpid() != self._process

    def _cancel(self) -> None:
        while self._hooks[0].acquiring():  # again and again: before it begins, a cancel is lost
            self._core.mda.cancel()
            time.sleep(0.02)
