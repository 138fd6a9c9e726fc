"""A job as another process is told it: what to refocus, with which engine, where results go."""

from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from refocus.configs import RefocusError
from refocus.engine.by_channel import open_models
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
    """

    source: Path
    folder: Path
    engine: str
    made_by: dict[str, Any]
    options: Options

    def as_json(self) -> dict[str, Any]:
        """Give it as JSON has it."""
        return {
            "source": str(self.source.resolve()),
            "folder": str(self.folder.resolve()),
            "engine": _resolved(self.engine),
            "made_by": self.made_by,
            "options": self.options.as_json(),
        }

    @classmethod
    def of_json(cls, said: dict[str, Any]) -> "Job":
        """Undo :meth:`as_json`."""
        options = Options.of_json(said["options"])
        source, folder = Path(said["source"]), Path(said["folder"])
        return cls(source, folder, said["engine"], said["made_by"], options)


def _resolved(engine: str) -> str:
    """Name a model's file so that a worker in another folder finds it."""
    file = Path(engine)
    return str(file.resolve()) if file.suffix and file.is_file() else engine


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
        selection, insecure = job.options.selection, job.options.insecure
        with ExitStack() as opened:
            data = opened.enter_context(closing(open_data_set(job.source, selection.chosen)))
            self._planes = data.planes
            paths = job.options.optics.of_all(data.light_path)
            engine: Engine = open_engine(
                job.engine, light_paths=paths, insecure=insecure, threads=1
            )
            opened.callback(engine.close)
            found = identify_engine(engine.info, selection)
            if found != job.made_by:
                raise RefocusError(
                    f"a worker has {found['software']} with {_named(found)}, and "
                    f"{job.made_by['software']} with {_named(job.made_by)} began; install the same"
                )
            channels = opened.enter_context(
                open_models(selection.channels, engine, insecure, threads=1)
            )
            self._refocusing = Refocusing(engine, job.options, channels)
            self._opened = opened.pop_all()
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
        """Close the engines, and the data set."""
        self._opened.close()


def _named(made_by: dict[str, Any]) -> str:
    models = "".join(f", {name} {digest}" for name, digest in made_by["models"].items())
    return f"{made_by['engine']}{models}"
