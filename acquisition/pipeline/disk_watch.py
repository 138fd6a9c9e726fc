"""The pipeline's third thread: it sees whether files that are being written are still there.

A disk or a server that takes its time to answer, or never does, holds up this thread and no other:
readers still hear every second of the run, and an engine that hangs is still noticed.
"""

import threading
from collections.abc import Callable, Sequence

from refocus.acquisition.pipeline.raw_data import RawFrames, RawZarr
from refocus.acquisition.pipeline.run import Run
from refocus.acquisition.pipeline.sink import Sink, Watching

STOP_S = 1.0
"""How long a look that is under way is waited for at the end."""


class DiskWatch:
    """Looks every so often at the files of the run that is being served.

    Parameters
    ----------
    raw
        The raw data; looked at where they are an OME-Zarr that is being written.
    sinks
        Those that are :class:`Watching` look at their own.
    seconds
        How often.
    run
        Gives the run that is being served; None while none is.
    """

    def __init__(
        self,
        raw: RawFrames | None,
        sinks: Sequence[Sink],
        seconds: float,
        run: Callable[[], Run | None],
    ) -> None:
        self._raw = raw if isinstance(raw, RawZarr) else None
        self._sinks = [sink for sink in sinks if isinstance(sink, Watching)]
        self._seconds = seconds
        self._run = run
        self._over = threading.Event()
        self._thread: threading.Thread | None = None
        if self._raw is not None or self._sinks:
            self._thread = threading.Thread(target=self._watch, name="refocus-disk", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """End the thread, unless the disk does not let it."""
        self._over.set()
        if self._thread is not None:
            self._thread.join(STOP_S)

    def _watch(self) -> None:
        while not self._over.wait(self._seconds):
            run = self._run()
            if run is None:
                continue
            with run.guarded():
                self._look_at_raw(run)
            for sink in self._sinks:
                with run.guarded():
                    sink.look_at_files(run.info.run)

    def _look_at_raw(self, run: Run) -> None:
        if self._raw is None or run.view or run.gone or not run.plan.by_place()[0]:
            return
        if run.raw_closed or not (gone := self._raw.gone()) or run.raw_closed:
            return  # what is closed is its owner's to take away, while it is looked at, too
        run.gone = gone
        run.problem(gone)
