"""An engine without a network: the whole contract, for those who build on it or test against it."""

import time

import numpy as np

from refocus.engine.protocol import (
    UNKNOWN,
    Engine,
    EngineError,
    EngineInfo,
    Frame,
    LightPath,
    Ticket,
)
from refocus.engine.protocol import Refocused as Result
from refocus.engine.trust.judgement import UNRATED, Judgement


class FakeEngine(Engine):
    """Inverts frames (``max - x``), each in ``seconds`` of a device that does one after another.

    Frames counted from 0 that are in ``fail_on`` raise :class:`EngineError`; ``judgement`` is said
    of all others, of which ``overlap`` may be under way.
    """

    def __init__(
        self,
        seconds: float = 0.0,
        fail_on: frozenset[int] = frozenset(),
        overlap: int = 1,
        judgement: Judgement = UNRATED,
    ) -> None:
        self._seconds, self._fail_on, self._overlap = seconds, fail_on, overlap
        self._judgement, self._free_at = judgement, 0.0
        self.calls, self.closed = 0, False

    @property
    def info(self) -> EngineInfo:
        """Which engine runs which model."""
        return EngineInfo(name="fake", device="none", precision="exact", card=None)

    @property
    def overlap(self) -> int:
        """How many frames may be under way at once."""
        return self._overlap

    def submit(self, frame: Frame, light_path: LightPath = UNKNOWN) -> Ticket:
        """Take a frame; its ticket waits until the device has done it and all before it."""
        call, self.calls = self.calls, self.calls + 1
        done_at = self._free_at = max(time.perf_counter(), self._free_at) + self._seconds

        def ticket() -> Result:
            if self._seconds:
                time.sleep(max(0.0, done_at - time.perf_counter()))
            if call in self._fail_on:
                raise EngineError(f"fake engine: told to fail on call {call}")
            return Result(self.refocus(frame), self._judgement, self.info)

        return ticket

    def refocus(self, frame: Frame) -> Frame:
        """Invert a frame, as a new array, at once."""
        return np.invert(frame)

    def close(self) -> None:
        """Remember that it was closed."""
        self.closed = True
