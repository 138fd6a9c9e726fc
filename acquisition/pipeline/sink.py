"""Where refocused frames go: the seam, and the description of a run that every sink is given."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from refocus.acquisition.pipeline.frame import CapturedFrame, FrameResult
from refocus.acquisition.pipeline.stats import Stats
from refocus.configs import RefocusError

if TYPE_CHECKING:
    from useq import MDASequence

    from refocus.acquisition.pipeline.on_disk import Saved
    from refocus.engine.trust.judgement import Judgement


@dataclass(frozen=True, eq=False)
class RunInfo:
    """What is known of a run before its first frame.

    Attributes
    ----------
    run
        Identifier, fresh for every run: one sequence may be run twice.
    sequence
        The sequence being acquired, or None where frames come without one.
    camera
        ``label, width, height, dtype, bit_depth, pixel_size_um`` of the camera; keys that are
        unknown are absent.
    engine
        ``name, model, sha256, precision, device``, and the model's whole ``card``.
    policy
        What happens to a frame when the queue is full.
    selection
        Which frames are refocused, as options of a run.
    optics
        What was told of the light path, as settings of a run.
    summary_meta
        pymmcore-plus' ``SummaryMetaV1``, or None.
    planned
        What a mere iterable of events carries out, with more or fewer of them; None where
        ``sequence`` says all.
    processor
        Name of the function that frames go through before they are published, or empty.
    """

    run: str
    sequence: "MDASequence | None" = None
    camera: Mapping[str, Any] = field(default_factory=dict)
    engine: Mapping[str, Any] = field(default_factory=dict)
    policy: str = "newest"
    selection: Mapping[str, Any] = field(default_factory=dict)
    optics: Mapping[str, Any] = field(default_factory=dict)
    summary_meta: Mapping[str, Any] | None = None
    planned: "MDASequence | None" = None
    processor: str = ""


class Refused(RefocusError):
    """A sink cannot take this frame, and takes those that follow: it counts as failed."""


class Sink(Protocol):
    """Receives what became of every frame of a run.

    All calls of a run come from one thread, in the order of capture: ``start``, then ``put`` per
    frame (or ``skip``, for a sink that is :class:`Noting`), then ``close``. A sink may be given
    several runs, one after another. One that raises :class:`Refused` has not got that frame, which
    counts as ``failed``. One that raises anything else gets no more frames in that run, and those
    it misses count as ``failed``; it is still closed, so that what it has written stays readable.
    Those that are :class:`Saving` are closed first: the others are told what the files hold.
    """

    def start(self, run: RunInfo) -> None:
        """Prepare for a run, before its frame 0."""
        ...

    def put(self, result: FrameResult) -> None:
        """Take one result. Its pixels are shared: read them, never write."""
        ...

    def close(self, stats: Stats) -> None:
        """Finish the run, with its final counts."""
        ...


@runtime_checkable
class Noting(Protocol):
    """A sink that is also told of each frame that has no result; others see it in the stats."""

    def skip(self, frame: CapturedFrame, reason: str) -> None:
        """Take note of a frame without result. Its pixels are zeros without memory."""
        ...


@runtime_checkable
class Steering(Protocol):
    """A sink that also feeds the acquisition, by what the frames before said."""

    @property
    def planned(self) -> "MDASequence":
        """What it carries out."""
        ...

    def decide(self, frame: CapturedFrame, judged: "Judgement | None") -> Mapping[str, Any] | None:
        """Say what is done about a frame, before any sink is given it; None where nothing is."""
        ...


@runtime_checkable
class Saving(Protocol):
    """A sink that writes files, and reads them again once it is closed."""

    def saved(self) -> "Saved | None":
        """Say what the files of the last run hold; None where nothing was to be saved."""
        ...


@runtime_checkable
class Watching(Protocol):
    """A sink that also looks after its files, every second, on a thread that may wait."""

    def look_at_files(self, run: str) -> None:
        """See whether what the run has written is still there.

        Parameters
        ----------
        run
            The identity of the run that is being served.
        """
        ...


@runtime_checkable
class Ticking(Protocol):
    """A sink that also wants the stats of the run every second, from a thread of its own.

    That thread serves others: what may take its time is for one that is :class:`Watching`.
    """

    def tick(self, stats: Stats) -> None:
        """Take the stats of the run in progress, or of the last one."""
        ...
