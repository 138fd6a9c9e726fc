"""A job as another process is told it: what to refocus, with which engine, where results go."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from refocus.configs import RefocusError
from refocus.engine.open import open_engine
from refocus.recorded.crew import Doing
from refocus.recorded.marks import identify_engine
from refocus.recorded.progress import Progress
from refocus.recorded.refocusing import Options, Refocusing, Said, Told
from refocus.recorded.work import Task

if TYPE_CHECKING:
    from refocus.engine.protocol import Engine

Event = dict[str, Any]
"""What is told of a task: ``{"region", "said"}``, or ``{"failed"}`` of its plane."""


@dataclass(frozen=True)
class Job:
    """What tasks belong to.

    Attributes
    ----------
    source
        The data set.
    folder
        Where its results are kept.
    engine
        As :func:`refocus.engine.open_engine` takes it.
    made_by
        What the engine must say of itself.
    options
        How planes are refocused.
    insecure
        As :func:`refocus.engine.open_engine` takes it.
    """

    source: Path
    folder: Path
    engine: str
    made_by: dict[str, Any]
    options: Options
    insecure: bool = False

    def as_json(self) -> dict[str, Any]:
        """Give it as JSON has it."""
        return {
            "source": str(self.source.resolve()),
            "folder": str(self.folder.resolve()),
            "engine": self.engine,
            "made_by": self.made_by,
            "options": self.options.as_json(),
            "insecure": self.insecure,
        }

    @classmethod
    def of_json(cls, said: dict[str, Any]) -> "Job":
        """Undo :meth:`as_json`."""
        options = Options.of_json(said["options"])
        source, folder = Path(said["source"]), Path(said["folder"])
        made_by, insecure = said["made_by"], said["insecure"]
        return cls(source, folder, said["engine"], made_by, options, insecure)


def task_as_json(task: Task) -> dict[str, Any]:
    """Give a task as JSON has it."""
    return {"plane": task.plane, "regions": list(task.regions), "told": task.told.as_json()}


class OpenJob:
    """A job in the process that does tasks of it, with an engine of one thread.

    Parameters
    ----------
    job
        Which.

    Raises
    ------
    RefocusError
        The source or the results are not where they are said to be, or the engine is another one.
    """

    def __init__(self, job: Job) -> None:
        from refocus.recorded.process import open_data_set

        if not job.folder.is_dir():
            raise RefocusError(
                f"{job.folder}: a worker does not see it; give a place that all of them share"
            )
        self._planes = open_data_set(job.source, job.options.channels).planes
        self._engine: Engine = open_engine(job.engine, insecure=job.insecure, threads=1)
        found = identify_engine(self._engine.info)
        if found != job.made_by:
            self._engine.close()
            raise RefocusError(
                f"a worker has {found['software']} with {found['engine']}, and "
                f"{job.made_by['software']} with {job.made_by['engine']} began; install the same"
            )
        self._refocusing = Refocusing(self._engine, job.options)
        self._progress = Progress(job.folder)

    def do(self, said: dict[str, Any], tell: Callable[[Event], None]) -> None:
        """Do a task, and tell of each region as soon as its result is kept.

        Raises
        ------
        OSError
            A result cannot be kept.
        """
        task = Task(said["plane"], tuple(said["regions"]), Told.of_json(said["told"]))
        failed: list[RefocusError] = []

        def done(_: int, region: int, of_region: Said) -> None:
            tell({"region": region, "said": list(of_region)})

        def fail(_: int, error: RefocusError) -> None:
            failed.append(error)
            tell({"failed": str(error)})

        doing = Doing(self._refocusing, self._planes, self._progress, done, fail)
        doing.run(iter([task]), lambda _: bool(failed))

    def close(self) -> None:
        """Close the engine."""
        self._engine.close()
