"""Frames that are owed: what is known of them, on the disk until their pixels are read back."""

import json
import tempfile
from dataclasses import dataclass
from typing import Any

import numpy as np

from refocus.acquisition.pipeline.arrival import blank
from refocus.acquisition.pipeline.frame import CapturedFrame
from refocus.acquisition.pipeline.queue import Task


@dataclass(frozen=True, eq=False)
class Debt:
    """A frame to be refocused later.

    Attributes
    ----------
    frame
        All that is known of it; its pixels are zeros without memory.
    task
        What was to be done with it.
    sample
        A few of its pixels, see :func:`refocus.acquisition.pipeline.arrival.sample`.
    """

    frame: CapturedFrame
    task: Task
    sample: bytes


class Debts:
    """First in, first out, of any number in constant memory. For one thread.

    They are in a temporary file without a name, which is gone when the process is.
    """

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile("w+b")  # noqa: SIM115
        self._read_at = 0
        self._count = 0
        self._first: Debt | None = None

    def __len__(self) -> int:
        return self._count

    def add(self, debt: Debt) -> None:
        """Put a frame behind the others; OSError where there is no room for it."""
        at = self._file.seek(0, 2)
        try:
            self._file.write(_encode(debt))
            self._file.flush()
        except OSError:
            self._file.truncate(at)
            raise
        self._count += 1

    def first(self) -> Debt:
        """Give the oldest; IndexError where there is none."""
        if self._first is None:
            if not self._count:
                raise IndexError("no debts")
            self._file.seek(self._read_at)
            line = self._file.readline()
            self._read_at += len(line)
            self._first = _decode(line)
        return self._first

    def paid(self) -> None:
        """Forget the oldest."""
        self.first()
        self._first = None
        self._count -= 1
        if not self._count:  # nothing is left to be read: the file begins anew
            self._file.truncate(0)
            self._read_at = 0

    def close(self) -> None:
        """Forget them all."""
        self._file.close()
        self._count = 0


def _encode(debt: Debt) -> bytes:
    frame = debt.frame
    known: dict[str, Any] = {
        **vars(frame),
        "pixels": [list(frame.pixels.shape), frame.pixels.dtype.str],
        "index": dict(frame.index),
        "position_um": dict(frame.position_um),
    }
    record = {"frame": known, "task": debt.task.value, "sample": debt.sample.hex()}
    return json.dumps(record).encode() + b"\n"


def _decode(line: bytes) -> Debt:
    record = json.loads(line)
    shape, dtype = record["frame"]["pixels"]
    frame = CapturedFrame(**{**record["frame"], "pixels": blank(tuple(shape), np.dtype(dtype))})
    return Debt(frame, Task(record["task"]), bytes.fromhex(record["sample"]))
