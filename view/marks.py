"""What is remembered of each frame when its pixels are not: where, when, and how it was judged."""

from collections import deque
from typing import Any

from refocus.view.places import Shown

KEPT = 2000
"""Frames of a run that are remembered, some 100 bytes each."""


class Marks:
    """The last frames of a run, a line each.

    Not thread-safe: :class:`~refocus.view.listener.Listener` holds a lock.

    Attributes
    ----------
    made
        How many there were in all, over all runs.
    """

    def __init__(self) -> None:
        self.made = 0
        self._marks: deque[dict[str, Any]] = deque(maxlen=KEPT)

    def put(self, shown: Shown, captured_at: float) -> None:
        """Take note of a frame, captured at a time in s since 1970."""
        header = shown.frame.header
        position = header.position_um
        mark: dict[str, Any] = {
            "serial": shown.serial,
            "t": round(captured_at, 3),
            **shown.place._asdict(),
            "x": position.get("x"),
            "y": position.get("y"),
        }
        if header.trust is not None:
            mark |= {"verdict": header.trust.verdict, "score": header.trust.score}
        if header.focus is not None:
            mark |= {"um": header.focus.distance_um, "sigma": header.focus.sigma_um}
        self._marks.append(mark)
        self.made += 1

    def since(self, count: int) -> list[dict[str, Any]]:
        """Give those that came after the first ``count`` of all, if they are still kept."""
        fresh = min(self.made - count, len(self._marks))
        return list(self._marks)[len(self._marks) - fresh :]

    def clear(self) -> None:
        """Forget them, as a new run has others."""
        self._marks.clear()
