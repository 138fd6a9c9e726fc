"""An engine that overlaps frames as one on a GPU does, and sleeps where that would compute.

A frame is copied into a slot, as into pinned memory, and its result out of it; in between the
device takes a stated time for it, one frame after another, by its own clock. What is left is what
this project does with the processor: enough to tell whether it would keep a GPU busy.
"""

import threading
import time
from collections.abc import Sequence
from queue import Queue
from typing import Any

import numpy as np

from refocus.engine.protocol import UNKNOWN, Engine, EngineInfo, Frame, LightPath, Refocused, Ticket
from refocus.engine.trust.judgement import UNRATED, Judgement


class DeviceClock(Engine):
    """Inverts frames, each in ``seconds`` of a device that does one after another.

    Parameters
    ----------
    seconds
        What the device takes for a frame.
    overlap
        How many frames may be under way at once.
    judgements
        What is said of the frames, in turn.

    Attributes
    ----------
    most
        The most frames that were under way at once.
    """

    def __init__(
        self, seconds: float, overlap: int = 3, judgements: Sequence[Judgement] = (UNRATED,)
    ) -> None:
        self.seconds, self.most = seconds, 0
        self._overlap, self._judgements = overlap, judgements
        self._info = EngineInfo(name="device clock", device="none", precision="exact", card=None)
        self._slots: Queue[Frame] = Queue()
        self._lock = threading.Lock()
        self._calls = self._under_way = 0
        self._starts_at = self._free_at = 0.0
        self.begin()

    @property
    def info(self) -> EngineInfo:
        """Which engine runs which model."""
        return self._info

    @property
    def overlap(self) -> int:
        """How many frames may be under way at once."""
        return self._overlap

    def warm_up(self, shape: tuple[int, int], dtype: np.dtype[Any]) -> None:
        """Allocate the slots."""
        self._slots = Queue()
        for _ in range(self._overlap):
            self._slots.put(np.zeros(shape, dtype))

    def submit(self, frame: Frame, light_path: LightPath = UNKNOWN) -> Ticket:
        """Copy a frame in; its ticket waits for the device, and copies the result out."""
        slot = self._slots.get()
        np.copyto(slot, frame)
        with self._lock:
            judgement = self._judgements[self._calls % len(self._judgements)]
            self._calls += 1
            self._under_way += 1
            self.most = max(self.most, self._under_way)
            starts = max(time.perf_counter(), self._free_at)
            self._starts_at = self._starts_at or starts
            done_at = self._free_at = starts + self.seconds
            self._worked += 1

        def ticket() -> Refocused:
            time.sleep(max(0.0, done_at - time.perf_counter()))
            pixels = np.invert(slot)
            self._slots.put(slot)
            with self._lock:
                self._under_way -= 1
            return Refocused(pixels, judgement, self._info)

        return ticket

    def begin(self) -> None:
        """Measure :attr:`busy` from the next frame on."""
        with self._lock:
            self._worked, self._starts_at = 0, 0.0

    @property
    def busy(self) -> float:
        """Part of the time, from the first frame's start to the last one's end, that it worked."""
        span_s = self._free_at - self._starts_at
        # a sum of many times is rounded: a device that never waited has worked for a little longer
        return min(1.0, self._worked * self.seconds / span_s) if self._worked else 0.0
