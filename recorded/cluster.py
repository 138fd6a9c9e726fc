"""Doing tasks on a Dask cluster, on any machines that see the same files."""

import json
import threading
import time
from typing import Any

from refocus.configs import RefocusError, one_line
from refocus.recorded.job import Event, Job, OpenJob, task_as_json
from refocus.recorded.planes import log
from refocus.recorded.refocusing import Said
from refocus.recorded.work import Task, Work

ANSWERS_IN = 10.0
"""Seconds in which a scheduler answers."""
LOOKS_EVERY = 0.05
AHEAD = 2
"""Tasks that wait for each thread of the cluster."""

_busy = threading.Lock()


_opened: dict[str, OpenJob] = {}
"""The job of this process: what it has opened is kept for all its tasks."""


def _open(job: str) -> OpenJob:
    """Open a job, once, and close the one before."""
    if job not in _opened:
        while _opened:
            former = _opened.popitem()[1]
            try:
                former.close()
            except Exception as error:  # an engine's own; the new job has no part in it
                log.warning("the job before was not closed: %s", one_line(error))
        _opened[job] = OpenJob(Job.of_json(json.loads(job)))
    return _opened[job]


def do(job: str, task: str) -> str:
    """Do a task on a worker; JSON in, and the events of it as JSON out."""
    events: list[Event] = []
    try:
        with _busy:  # an engine uses all that it is allowed
            _open(job).do(json.loads(task), events.append)
    except (RefocusError, OSError) as error:
        events.append({"broken": one_line(error)})
    return json.dumps(events)


class Cluster:
    """A crew of the workers of a Dask cluster; one that is lost is replaced by Dask.

    Parameters
    ----------
    job
        What they are told. They must see its files under the same names.
    scheduler
        Address, such as ``tcp://host:8786``.

    Raises
    ------
    RefocusError
        ``dask.distributed`` is not installed, the scheduler does not answer, or its workers run
        other versions.
    """

    def __init__(self, job: Job, scheduler: str) -> None:
        try:
            import distributed
        except ImportError as error:
            raise RefocusError(
                "--scheduler needs dask.distributed; install the extra: pip install "
                "'refocus-live[cluster]'"
            ) from error
        self._job, self._where = json.dumps(job.as_json()), scheduler
        self._alone_since = time.monotonic()
        try:
            self._client = distributed.Client(scheduler, timeout=ANSWERS_IN, set_as_default=False)
            self._client.get_versions(check=True)
        except (OSError, ValueError, TimeoutError) as error:
            raise RefocusError(
                f"{scheduler}: no Dask cluster that fits ({one_line(error)[:200]}); start "
                "'dask scheduler' and workers there, with the packages of this machine"
            ) from error

    def run(self, work: Work) -> None:
        """Do all tasks of the work.

        Raises
        ------
        RefocusError
            A worker cannot work, or a task ended every one that had it.
        """
        import distributed

        tasks = work.tasks()
        under_way: dict[Any, Task] = {}
        finished = distributed.as_completed(loop=self._client.loop)
        try:
            while not work.given_up:
                room = AHEAD * max(1, sum(self._client.nthreads().values()))
                while len(under_way) < room and (task := next(tasks, None)) is not None:
                    future = self._client.submit(
                        do, self._job, json.dumps(task_as_json(task)), pure=False
                    )
                    under_way[future] = task
                    finished.add(future)
                if not under_way:
                    return
                for future in finished.next_batch(block=False):
                    self._note(under_way.pop(future), future, work)
                self._wait()
        finally:
            self._client.cancel(list(under_way))
            self._client.close()

    def _wait(self) -> None:
        """Wait a little, so that whoever ends the work is heard; and say when nobody does it."""
        time.sleep(LOOKS_EVERY)
        if self._client.nthreads():
            self._alone_since = time.monotonic()
        elif time.monotonic() - self._alone_since > ANSWERS_IN:
            log.warning("%s: has no workers; start 'dask worker %s'", self._where, self._where)
            self._alone_since = time.monotonic()

    def _note(self, task: Task, future: Any, work: Work) -> None:
        name = work.data.planes[task.plane].about.name
        try:
            events = json.loads(future.result())
        except Exception as error:  # whatever ended its workers
            raise RefocusError(
                f"{name}: the cluster gave it up ({one_line(error)[:200]})"
            ) from error
        for event in events:
            if "broken" in event:
                raise RefocusError(event["broken"])
            if "region" in event:
                work.done(task.plane, event["region"], Said(*event["said"]))
            else:
                work.fail(task.plane, RefocusError(event["failed"]))
        log.debug("%s: %d regions from %s", name, len(task.regions), self._where)
