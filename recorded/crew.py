"""Doing tasks with an engine of this process, while what comes next is read."""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

from refocus.configs import RefocusError
from refocus.engine.protocol import EngineError
from refocus.recorded.planes import Plane, RecordedPlane
from refocus.recorded.progress import Progress
from refocus.recorded.refocusing import PendingResult, Refocusing, Said
from refocus.recorded.work import Task, Work

if TYPE_CHECKING:
    from refocus.recorded.regions import Grid

AHEAD = 2
"""Regions that are read before their turn."""


class Doing:
    """Does tasks, one region after the other, and keeps their results.

    Parameters
    ----------
    refocusing
        With an engine.
    planes
        Of the data set.
    progress
        Where results are kept.
    done, failed
        Told of each region, and of a plane that fails.
    """

    def __init__(
        self,
        refocusing: Refocusing,
        planes: list[RecordedPlane],
        progress: Progress,
        done: Callable[[int, int, Said], None],
        failed: Callable[[int, RefocusError], None],
    ) -> None:
        self._refocusing, self._planes, self._progress = refocusing, planes, progress
        self._done, self._failed = done, failed
        self._reader = ThreadPoolExecutor(1, "refocus-read")
        self._read: deque[tuple[Task, RecordedPlane, Grid, int, Future[Plane]]] = deque()
        self._under_way: deque[tuple[Task, int, PendingResult]] = deque()

    def run(self, tasks: Iterator[Task], skips: Callable[[int], bool]) -> None:
        """Do tasks; regions of planes that are skipped are passed over.

        Raises
        ------
        OSError
            A result cannot be kept.
        """
        try:
            for task in tasks:
                plane = self._refocusing.part(self._planes[task.plane])
                grid = self._refocusing.grid(plane)
                for region in task.regions:
                    pixels = self._reader.submit(plane.read, *grid[region].read)
                    self._read.append((task, plane, grid, region, pixels))
                    if len(self._read) > AHEAD:
                        self._submit(skips)
            while self._read:
                self._submit(skips)
            while self._under_way:
                self._finish(skips)
        finally:
            self._reader.shutdown(cancel_futures=True)

    def _submit(self, skips: Callable[[int], bool]) -> None:
        task, plane, grid, region, reading = self._read.popleft()
        if skips(task.plane):
            return
        while len(self._under_way) >= self._refocusing.overlap:
            self._finish(skips)
        try:
            pending = self._refocusing.submit(
                plane, grid[region], task.told, reading.result(), grid.fade
            )
        except RefocusError as error:
            self._failed(task.plane, error)
            return
        self._under_way.append((task, region, pending))

    def _finish(self, skips: Callable[[int], bool]) -> None:
        task, region, pending = self._under_way.popleft()
        try:
            result = pending.wait()
        except EngineError as error:
            self._failed(task.plane, error)
            return
        if not skips(task.plane):
            result.save(self._progress.path(task.plane, region))
            self._done(task.plane, region, result.said)


class Here:
    """A crew of one: the engine of this process.

    Parameters
    ----------
    refocusing
        With that engine.
    """

    def __init__(self, refocusing: Refocusing) -> None:
        self._refocusing = refocusing

    def run(self, work: Work) -> None:
        """Do all tasks of the work."""
        doing = Doing(self._refocusing, work.data.planes, work.progress, work.done, work.fail)
        doing.run(work.tasks(), lambda plane: work.given_up or work.has_failed(plane))
