"""Who refocuses a data set: this process, several of this machine, or those of a cluster."""

from pathlib import Path

from refocus.engine.protocol import EngineInfo
from refocus.recorded.job import Job
from refocus.recorded.marks import identify_engine
from refocus.recorded.progress import Progress
from refocus.recorded.refocusing import Options
from refocus.recorded.work import Crew
from refocus.recorded.workers import Workers


def crew_of(  # noqa: PLR0917
    source: Path,
    target: Path,
    engine: str,
    info: EngineInfo,
    options: Options,
    workers: int = 1,
    scheduler: str = "",
) -> Crew | None:
    """Choose a crew.

    Parameters
    ----------
    source, target, options
        What is to be done; see :func:`refocus.recorded.process.process`.
    engine
        As :func:`refocus.engine.open_engine` takes it.
    info
        What it says of itself here.
    workers
        Processes of this machine.
    scheduler
        Address of a Dask scheduler, instead.

    Returns
    -------
    Crew or None
        None for this process.

    Raises
    ------
    RefocusError
        The scheduler does not answer, or runs another version.
    """
    made_by = identify_engine(info, options.selection)
    job = Job(source, Progress.beside(target).folder, engine, made_by, options)
    if scheduler:
        from refocus.recorded.cluster import Cluster

        return Cluster(job, scheduler)
    return Workers(job, workers) if workers > 1 else None
