"""An engine without a network, for the tests of those who build on the pipeline."""

import time
from typing import Any

import numpy as np

from refocus.engine.protocol import EngineError, EngineInfo, Frame


class FakeEngine:
    """Gives every frame back inverted, after a stated time.

    Inverted, so that a test can tell a refocused frame from a captured one, and undo it.

    Parameters
    ----------
    seconds
        How long one frame takes. The wait releases the GIL, as a network does.
    fail_on
        Which calls (counted from 0) raise :class:`EngineError`.
    """

    def __init__(self, seconds: float = 0.0, fail_on: frozenset[int] = frozenset()) -> None:
        self._seconds = seconds
        self._fail_on = fail_on
        self.calls = 0
        self.closed = False

    @property
    def info(self) -> EngineInfo:
        """Which engine runs which model."""
        return EngineInfo(name="fake", device="none", precision="exact", card=None)

    def warm_up(self, shape: tuple[int, int], dtype: np.dtype[Any]) -> None:
        """Do nothing: there is nothing to warm."""

    def refocus(self, frame: Frame) -> Frame:
        """Give the frame back inverted (``max - x``), as a new array."""
        call = self.calls
        self.calls += 1
        if self._seconds:
            time.sleep(self._seconds)
        if call in self._fail_on:
            raise EngineError(f"fake engine: told to fail on call {call}")
        return np.invert(frame)

    def close(self) -> None:
        """Remember that it was closed."""
        self.closed = True
