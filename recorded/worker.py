"""A process that does tasks: a job and tasks come in, a line of JSON each, and events go out."""

import json
import logging
import os
import sys
from contextlib import closing
from typing import Any

from refocus.configs import RefocusError, reason_of
from refocus.recorded.job import Job, OpenJob


class _Warnings(logging.Handler):
    """Tells warnings as events."""

    def emit(self, record: logging.LogRecord) -> None:
        _tell({"warning": record.getMessage()})


def _tell(event: dict[str, Any]) -> None:
    _out.write(json.dumps(event) + "\n")
    _out.flush()


def main() -> None:
    """Do what is asked until nobody asks any more."""
    logger = logging.getLogger("refocus")
    logger.addHandler(_Warnings(logging.WARNING))
    logger.propagate = False
    try:
        with closing(OpenJob(Job.of_json(json.loads(sys.stdin.readline())))) as job:
            for line in sys.stdin:
                job.do(json.loads(line), _tell)
                _tell({"end": True})
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        _tell({"broken": f"{where}{reason_of(error)}"})
    except RefocusError as error:
        _tell({"broken": str(error)})


if __name__ == "__main__":
    # what a library prints must not come between
    _out = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    main()
