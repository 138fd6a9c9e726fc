"""The live half: hook, bounded pipeline, ZeroMQ, recorder, simulated and replayed microscopes.

Follow a frame by opening ``hook``, ``arrival``, ``queue``, ``worker`` and ``publisher`` in that
order. Names are imported when they are first used, so that a subscriber needs no microscope.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from refocus.acquisition.frame import CapturedFrame, FrameResult
    from refocus.acquisition.hook import attach
    from refocus.acquisition.live import Live
    from refocus.acquisition.pipeline import Pipeline
    from refocus.acquisition.publisher import Publisher
    from refocus.acquisition.selection import Selection
    from refocus.acquisition.sink import RunInfo, Sink
    from refocus.acquisition.stats import Stats
    from refocus.acquisition.subscriber import ReceivedFrame, Subscription, subscribe

__all__ = [
    "CapturedFrame",
    "FrameResult",
    "Live",
    "Pipeline",
    "Publisher",
    "ReceivedFrame",
    "RunInfo",
    "Selection",
    "Sink",
    "Stats",
    "Subscription",
    "attach",
    "subscribe",
]

_HOMES = {
    "CapturedFrame": "frame",
    "FrameResult": "frame",
    "Live": "live",
    "Pipeline": "pipeline",
    "Publisher": "publisher",
    "ReceivedFrame": "subscriber",
    "RunInfo": "sink",
    "Selection": "selection",
    "Sink": "sink",
    "Stats": "stats",
    "Subscription": "subscriber",
    "attach": "hook",
    "subscribe": "subscriber",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"refocus.acquisition.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
