"""What tests of the pipeline share."""

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorstore
import useq
from numpy.typing import NDArray

from refocus.engine.fake import FakeEngine


class Keep:
    """A sink that keeps everything."""

    def __init__(self) -> None:
        self.runs, self.results, self.skipped, self.closed = [], [], [], []

    def start(self, run):
        self.runs.append(run)

    def put(self, result):
        self.results.append(result)

    def skip(self, frame, reason):
        self.skipped.append((frame.frame, reason))

    def close(self, stats):
        self.closed.append(stats.check())


class Gated(FakeEngine):
    """An engine that works on one frame, and then not again until it is let go."""

    def __init__(self, gate, free: int = 1, **settings: Any) -> None:
        super().__init__(**settings)
        self.gate = gate
        self._free = free

    def refocus(self, frame):
        if self.calls >= self._free:
            self.gate.wait(30)
        return super().refocus(frame)


def loops(count, **plans):
    return useq.MDASequence(time_plan={"interval": 0, "loops": count}, **plans)


def zarr_arrays(root: Path) -> dict[str, NDArray[Any]]:
    """Read every full-resolution array of an OME-Zarr, by its folder."""
    found = {}
    for document in sorted(root.rglob("0/zarr.json")):
        if json.loads(document.read_text())["node_type"] == "array":
            spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": str(document.parent)}}
            name = str(document.parent.parent.relative_to(root))
            found[name] = np.asarray(tensorstore.open(spec, read=True).result().read().result())
    return found


@pytest.fixture(autouse=True)
def own_logging() -> Iterator[None]:
    """Undo what a command, run in this process, does to the project's log."""
    logger = logging.getLogger("refocus")
    level, propagate, handlers = logger.level, logger.propagate, list(logger.handlers)
    yield
    logger.setLevel(level)
    logger.propagate, logger.handlers = propagate, handlers


@pytest.fixture
def keep() -> Keep:
    return Keep()
