"""What the core and its acquisition engine only log: told in our own style, and counted.

pymmcore-plus reports hardware trouble (an autofocus that failed, a stage that is not there, a snap
without a picture) by its logger alone; the run ends as if all were well.
"""

import logging
import os
from collections import Counter
from pathlib import Path
from typing import Self

log = logging.getLogger("refocus.run")

LOGGER = "pymmcore-plus"
LONGEST = 300
"""Characters of a message that are told."""


def log_where_possible() -> None:
    """Have pymmcore-plus keep no log file where it could write none: it would not even start.

    To be called before it is imported.
    """
    from platformdirs import user_data_dir

    file = Path(user_data_dir(LOGGER)) / "logs" / f"{LOGGER}.log"
    there = next((one for one in (file, *file.parents) if os.path.exists(one)), file)
    if not os.access(there, os.W_OK) or not (there == file or there.is_dir()):
        os.environ.setdefault("PYMM_LOG_FILE", os.devnull)


class Upstream(logging.Handler):
    """Listens, as a context manager, to what pymmcore-plus warns of.

    Attributes
    ----------
    warnings
        Each message with its count; the first of its kind is handed on to the log ``refocus.run``.
    unsaved
        Why raw data could not be closed: messages of a writer that failed.
    """

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.warnings: Counter[str] = Counter()
        self.unsaved: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Take a message."""
        text = " ".join(record.getMessage().split())
        if text.startswith("MDA Canceled"):
            return  # by us, who say why
        if text.startswith("Error closing data sink"):
            self.unsaved.append(text)  # the run ends with it
            return
        if record.exc_info and record.exc_info[1] is not None:
            error = " ".join(str(record.exc_info[1]).split())
            text = text if error in text else f"{text}: {error}"
        text = text[:LONGEST]
        self.warnings[text] += 1
        if self.warnings[text] == 1:
            log.warning("the microscope: %s", text)

    def __enter__(self) -> Self:
        import pymmcore_plus  # noqa: F401  (it clears the handlers of its logger)

        logging.getLogger(LOGGER).addHandler(self)
        return self

    def __exit__(self, *_: object) -> None:
        logging.getLogger(LOGGER).removeHandler(self)
