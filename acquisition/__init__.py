"""The live half: hook, bounded pipeline, ZeroMQ, recorder, simulated and replayed microscopes.

One frame's way, file by file, is in ``docs/house.md``. Names are imported when they are first used,
so that a subscriber needs no microscope.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from refocus.acquisition.hook import attach
    from refocus.acquisition.live import Live
    from refocus.acquisition.pipeline.frame import CapturedFrame, FrameResult
    from refocus.acquisition.pipeline.sink import RunInfo, Sink
    from refocus.acquisition.pipeline.stats import Stats
    from refocus.acquisition.selection import Selection
    from refocus.stream.subscriber import ReceivedFrame, Subscription, subscribe

__all__ = [
    "CapturedFrame",
    "FrameResult",
    "Live",
    "ReceivedFrame",
    "RunInfo",
    "Selection",
    "Sink",
    "Stats",
    "Subscription",
    "attach",
    "hook",
    "live",
    "selection",
    "signals",
    "subscribe",
]

_HOMES = {
    "CapturedFrame": "refocus.acquisition.pipeline.frame",
    "FrameResult": "refocus.acquisition.pipeline.frame",
    "Live": "refocus.acquisition.live",
    "ReceivedFrame": "refocus.stream.subscriber",
    "RunInfo": "refocus.acquisition.pipeline.sink",
    "Selection": "refocus.acquisition.selection",
    "Sink": "refocus.acquisition.pipeline.sink",
    "Stats": "refocus.acquisition.pipeline.stats",
    "Subscription": "refocus.stream.subscriber",
    "attach": "refocus.acquisition.hook",
    "subscribe": "refocus.stream.subscriber",
}
"""Module of each name."""


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
