"""Deferred frames: what is known of them, on the disk until their pixels are read back."""

import json
import tempfile
from dataclasses import dataclass
from typing import Any

import numpy as np

from refocus.acquisition.pipeline.arrival import blank
from refocus.acquisition.pipeline.frame import CapturedFrame
from refocus.acquisition.pipeline.queue import Task


@dataclass(frozen=True, eq=False)
class Deferred:
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


class DeferredFrames:
    """First in, first out, of any number in constant memory. For one thread.

    They are in a temporary file without a name, which is gone when the process is.
    """

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile("w+b")  # noqa: SIM115
        self._read_at = 0
        self._count = 0
        self._first: Deferred | None = None

    def __len__(self) -> int:
        return self._count

    def add(self, deferred: Deferred) -> None:
        """Put a frame behind the others; OSError where there is no room for it."""
        at = self._file.seek(0, 2)
        try:
            self._file.write(_encode(deferred))
            self._file.flush()
        except OSError:
            self._file.truncate(at)
            raise
        self._count += 1

    def first(self) -> Deferred:
        """Give the oldest; IndexError where there is none."""
        if self._first is None:
            if not self._count:
                raise IndexError("no deferred frame")
            self._file.seek(self._read_at)
            line = self._file.readline()
            self._read_at += len(line)
            self._first = _decode(line)
        return self._first

    def drop_first(self) -> None:
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


def _encode(deferred: Deferred) -> bytes:
    frame = deferred.frame
    known: dict[str, Any] = {
        **vars(frame),
        "pixels": [list(frame.pixels.shape), frame.pixels.dtype.str],
        "index": dict(frame.index),
        "position_um": dict(frame.position_um),
    }
    record = {"frame": known, "task": deferred.task.value, "sample": deferred.sample.hex()}
    return json.dumps(record).encode() + b"\n"


def _decode(line: bytes) -> Deferred:
    record = json.loads(line)
    shape, dtype = record["frame"]["pixels"]
    frame = CapturedFrame(**{**record["frame"], "pixels": blank(tuple(shape), np.dtype(dtype))})
    return Deferred(frame, Task(record["task"]), bytes.fromhex(record["sample"]))
