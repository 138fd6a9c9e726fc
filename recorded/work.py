"""What is to be done of a data set and what is done, whoever does it, in whatever order."""

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol

import numpy as np

from refocus.configs import RefocusError
from refocus.recorded.assembly import Assembly
from refocus.recorded.data_set import DataSet
from refocus.recorded.part import put_back
from refocus.recorded.planes import ROWS, Plane, RecordedPlane, log
from refocus.recorded.progress import Progress
from refocus.recorded.refocusing import Options, Refocusing, Said, Told
from refocus.recorded.regions import Grid
from refocus.recorded.survey import survey

RUN = 8
"""Regions of a task: so many are one after the other, and share what is read around them."""


@dataclass
class Processed:
    """What became of a data set.

    Attributes
    ----------
    refocused, failed
        Planes.
    as_captured
        How many were not to be refocused, by the reason.
    regions, of_regions
        How many are done, and how many there are; a plane that is small enough is one.
    verdicts
        On regions.
    """

    refocused: int = 0
    failed: int = 0
    as_captured: Counter[str] = field(default_factory=Counter)
    regions: int = 0
    of_regions: int = 0
    verdicts: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class Task:
    """A run of regions of one plane; it may be done twice, or by two at once.

    Attributes
    ----------
    plane
        Its number in the data set.
    regions
        Their numbers on its grid.
    told
        What is known of the plane.
    """

    plane: int
    regions: tuple[int, ...]
    told: Told


class Crew(Protocol):
    """Does tasks."""

    def run(self, work: "Work") -> None:
        """Do all tasks of the work, and tell it of each region; stop when it is given up."""


class PlaneLost(Exception):
    """A plane failed when some of its rows had been written already."""


class Work:
    """The regions of a data set: those to do, those done, and what becomes of them.

    Parameters
    ----------
    data
        The planes.
    refocusing
        Cuts planes into regions, and says what each has to be told.
    progress
        Where results are kept.
    options
        How planes are refocused.
    keep_going
        Leave out what fails, instead of giving up.
    on_progress
        Called after each region, and when a plane fails; by any thread, by one at a time.

    Raises
    ------
    RefocusError
        Nothing of it is to be refocused, or some of it cannot be and is not to be left out.
    """

    def __init__(  # noqa: PLR0917
        self,
        data: DataSet,
        refocusing: Refocusing,
        progress: Progress,
        options: Options,
        keep_going: bool,
        on_progress: Callable[[Processed], None],
    ) -> None:
        self.data, self.progress, self.options = data, progress, options
        self.given_up = False
        self._refocusing, self._keep_going, self._on_progress = refocusing, keep_going, on_progress
        self._changed = threading.Condition()
        self._failed: dict[int, RefocusError] = {}
        self._broken: BaseException | None = None
        self._said: dict[tuple[int, int], Said] = {}
        self._done = Processed()
        self._as_captured: dict[int, str] = {}
        self._parts = list(data.planes)
        self._grids: list[Grid | None] = [None] * len(data.planes)
        for number, plane in enumerate(data.planes):
            if why := options.selection.left(plane.about.channel, plane.about.in_stack):
                self._done.as_captured[why] += 1
                self._as_captured[number] = why
                continue
            try:
                self._parts[number] = refocusing.part(plane)
                self._grids[number] = refocusing.grid(self._parts[number])
            except RefocusError as error:
                self.fail(number, error)
        names = {plane.about.channel for plane in data.planes}
        for name in options.selection.chosen:
            if name not in names:
                there = ", ".join(sorted(names - {""})) or "no names of channels"
                log.warning("%s: no plane is of channel %s; there are %s", data.source, name, there)
        self._done.of_regions = sum(len(grid) for grid in self._grids if grid is not None)
        self._left = [len(grid) if grid is not None else 0 for grid in self._grids]
        for about, unread in data.unreadable:
            self._leave_out(about.name, unread)
        if self._as_captured and len(self._as_captured) == len(data.planes) + len(data.unreadable):
            reasons = "; ".join(sorted(self._done.as_captured))
            raise RefocusError(f"{data.source}: nothing to refocus: {reasons}")
        if self._broken is not None:
            raise self._broken

    @contextmanager
    def done_by(self, crew: Crew) -> Iterator[None]:
        """Have a crew do it, in a thread of its own, while the result is written."""

        def run() -> None:
            try:
                crew.run(self)
            except BaseException as error:  # whatever it is, whoever waits is to know
                self._break(error)

        thread = threading.Thread(target=run, name="refocus-process", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self.given_up = True
            thread.join()

    def tasks(self) -> Iterator[Task]:
        """Give what is to be done, in the order of the planes."""
        for number, grid in enumerate(self._grids):
            if grid is None or number in self._failed:
                continue
            todo = []
            for region in range(len(grid)):
                if self.progress.has(number, region):
                    self.done(number, region, self.progress.said(number, region))
                else:
                    todo.append(region)
            try:
                told = self._told(number, grid)
            except RefocusError as error:
                self.fail(number, error)
                continue
            for begins in range(0, len(todo), RUN):
                if self.given_up:
                    return
                if number not in self._failed:
                    yield Task(number, tuple(todo[begins : begins + RUN]), told)

    def grid(self, plane: int) -> Grid:
        """Say how a plane is cut."""
        found = self._grids[plane]
        assert found is not None
        return found

    def has_failed(self, plane: int) -> bool:
        """Say whether a plane is given up."""
        return plane in self._failed

    def done(self, plane: int, region: int, said: Said) -> None:
        """Note a region whose result is kept."""
        with self._changed:
            if (plane, region) in self._said:
                return
            self._said[plane, region] = said
            self._left[plane] -= 1
            self._done.regions += 1
            self._done.verdicts[said.verdict] += 1
            self._done.refocused += not self._left[plane]
            self._on_progress(self._done)
            self._changed.notify_all()

    def fail(self, plane: int, error: RefocusError) -> None:
        """Note a plane that cannot be refocused."""
        with self._changed:
            if plane in self._failed:
                return
            self._failed[plane] = error
            self._leave_out(self.data.planes[plane].about.name, error)
            self._changed.notify_all()

    def bands(self, plane: int) -> Iterator[Plane]:
        """Give the rows of a plane as they are to be written, as soon as they are there.

        Raises
        ------
        PlaneLost
            It failed after some rows of it were given.
        """
        grid, recorded = self._grids[plane], self.data.planes[plane]
        if grid is None and plane not in self._failed:
            yield from recorded.bands(0, recorded.shape[0])
        elif grid is None or not self._wait(plane, grid, 1):
            yield from _nothing(recorded)
        else:
            region = self.options.selection.region
            yield from put_back(recorded, region, self._refocused(plane, grid))

    def stays(self, plane: int) -> bool:
        """Say whether a plane is not to be refocused."""
        return plane in self._as_captured

    def provenance(self, planes: Sequence[int], made_by: dict[str, Any]) -> dict[str, Any]:
        """Say what made planes, and how far each is to be trusted."""
        records = []
        for number in planes:
            grid = self._grids[number]
            if grid is not None:
                self._wait(number, grid, grid.counts[0])
            records.append(self.record(number))
        return {
            **made_by,
            "on_distrust": self.options.on_distrust,
            "source": self.data.source.name,
            "processed_utc": datetime.now(UTC).isoformat(timespec="seconds"),
            "planes": records,
        }

    def finished(self) -> Processed:
        """Wait for all that is under way, and give what became of it.

        Raises
        ------
        RefocusError
            Nothing of it could be read.
        """
        for number, grid in enumerate(self._grids):
            if grid is not None:
                self._wait(number, grid, grid.counts[0])
        errors = [*self._failed.values(), *(error for _, error in self.data.unreadable)]
        if errors and not self._done.refocused:
            raise errors[0]
        return self._done

    def _told(self, number: int, grid: Grid) -> Told:
        plane = self._parts[number]
        if grid.is_one:
            return self._refocusing.believe(plane)
        found = self.progress.survey(number)
        if found is None:
            found = survey(plane)
            self.progress.keep_survey(number, found)
        return Told(found)

    def _refocused(self, number: int, grid: Grid) -> Iterator[Plane]:
        """Give the rows of what was refocused of a plane."""
        assembly = Assembly(
            self._parts[number],
            grid,
            None if grid.is_one else self.progress.survey(number),
            self.options.on_distrust == "captured",
            lambda region: self.progress.load(number, region),
        )
        for row in range(grid.counts[0]):
            if not self._wait(number, grid, row + 1):
                raise PlaneLost
            yield assembly.row(row)

    def record(self, number: int) -> dict[str, Any]:
        """Say what became of a plane that is done."""
        place, grid = self.data.planes[number].about.place, self._grids[number]
        if number in self._failed:
            return {"plane": place, "left_out": str(self._failed[number])}
        if grid is None:
            return {"plane": place, "as_captured": self._as_captured[number]}
        said = [self._said[number, region] for region in range(len(grid))]
        if grid.is_one:
            return {"plane": place, "verdict": said[0].verdict, "distance_um": said[0].distance_um}
        verdicts = Counter(one.verdict for one in said)
        known = [one.distance_um for one in said if one.distance_um is not None]
        middle = round(float(np.median(known)), 3) if known else None
        (most, _), *_ = verdicts.most_common()
        return {"plane": place, "verdict": most, "distance_um": middle, "regions": dict(verdicts)}

    def _wait(self, plane: int, grid: Grid, rows: int) -> bool:
        """Wait for the first rows of regions and the next one; False where the plane failed."""
        wanted = range(min(rows + 1, grid.counts[0]) * grid.counts[1])
        with self._changed:
            while True:
                if self._broken is not None:
                    raise self._broken
                if plane in self._failed:
                    return False
                if not self._left[plane] or all((plane, n) in self._said for n in wanted):
                    return True
                self._changed.wait(0.5)  # and see to signals

    def _leave_out(self, name: str, error: RefocusError) -> None:
        if not self._keep_going:
            self._break(error)
            return
        log.warning("%s: left out: %s", name, error)
        self._done.failed += 1
        self._on_progress(self._done)

    def _break(self, error: BaseException) -> None:
        with self._changed:
            self._broken, self.given_up = self._broken or error, True
            self._changed.notify_all()


def _nothing(plane: RecordedPlane) -> Iterator[Plane]:
    height, width = plane.shape
    for top in range(0, height, ROWS):
        yield np.zeros((min(ROWS, height - top), width), plane.dtype)
