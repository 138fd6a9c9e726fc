"""Doing tasks with several processes of this machine, each with an engine of one thread."""

import json
import os
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from queue import Queue

from refocus.configs import RefocusError
from refocus.recorded.job import Job, task_as_json
from refocus.recorded.planes import log
from refocus.recorded.refocusing import Said
from refocus.recorded.work import Task, Work

MOST_ENDINGS = 3
"""Of workers on one task, until the task is thought to be at fault."""


class Workers:
    """A crew of processes. One that ends is replaced, and what it had is done by another.

    Parameters
    ----------
    job
        What they are told.
    count
        How many.
    """

    def __init__(self, job: Job, count: int) -> None:
        self._job, self._count = job, count
        self._lock = threading.Lock()
        self._warn = cache(log.warning)  # each thing once
        self._again: deque[tuple[Task, int]] = deque()
        self._under_way = 0
        self.running: list[subprocess.Popen[str]] = []

    def run(self, work: Work) -> None:
        """Do all tasks of the work.

        Raises
        ------
        RefocusError
            A worker cannot work, or a task ended every one that had it.
        """
        tasks, errors = work.tasks(), Queue[BaseException]()

        def serve() -> None:
            try:
                self._serve(tasks, work)
            except BaseException as error:
                work.given_up = True
                errors.put(error)

        threads = [threading.Thread(target=serve, daemon=True) for _ in range(self._count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if not errors.empty():
            raise errors.get()

    def _serve(self, tasks: Iterator[Task], work: Work) -> None:
        """Keep one worker busy."""
        process = self._start()
        try:
            while (taken := self._next(tasks, work)) is not None:
                task, endings = taken
                if self._do(process, task, work):
                    with self._lock:
                        self._under_way -= 1
                    continue
                status = _end(process)
                if endings + 1 >= MOST_ENDINGS:
                    name = work.data.planes[task.plane].about.name
                    raise RefocusError(
                        f"{name}: {MOST_ENDINGS} workers ended on it (status {status}); is there "
                        "enough memory for as many? Give fewer --workers"
                    )
                log.warning("a worker ended (status %d); its task is done again", status)
                with self._lock:
                    self._under_way -= 1
                    self._again.append((task, endings + 1))
                process = self._start()
        finally:
            if work.given_up:
                process.terminate()
            _end(process)

    def _next(self, tasks: Iterator[Task], work: Work) -> tuple[Task, int] | None:
        """Take a task: one whose worker ended, or the next; None where there is no more."""
        while not work.given_up:
            with self._lock:
                if self._again:
                    self._under_way += 1
                    return self._again.popleft()
                task = next(tasks, None)
                if task is not None:
                    self._under_way += 1
                    return task, 0
                if not self._under_way:
                    return None
            threading.Event().wait(0.1)  # a worker may end yet
        return None

    def _do(self, process: subprocess.Popen[str], task: Task, work: Work) -> bool:
        """Have a task done; False where the worker ended."""
        assert process.stdin is not None
        assert process.stdout is not None
        with suppress(OSError):  # what it says, or its end, tells why
            process.stdin.write(json.dumps(task_as_json(task)) + "\n")
            process.stdin.flush()
        for line in process.stdout:
            event = json.loads(line)
            if "end" in event or work.given_up:
                return True
            if "broken" in event:
                raise RefocusError(event["broken"])
            if "region" in event:
                work.done(task.plane, event["region"], Said(*event["said"]))
            elif "failed" in event:
                work.fail(task.plane, RefocusError(event["failed"]))
            else:
                self._warn("%s", event["warning"])
        return False

    def _start(self) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "refocus.recorded.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            start_new_session=True,  # Ctrl-C is for the command, which ends them
        )
        assert process.stdin is not None
        process.stdin.write(json.dumps(self._job.as_json()) + "\n")
        process.stdin.flush()
        self.running.append(process)
        return process


def _end(process: subprocess.Popen[str]) -> int:
    """Close what leads to a process, wait for its end, and give its status."""
    with suppress(OSError):
        process.communicate()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with suppress(OSError):  # what it was not told any more
                pipe.close()
    return process.wait()
