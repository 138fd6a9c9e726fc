"""The live half: hook, bounded pipeline, ZeroMQ, recorder, simulated and replayed microscopes.

One frame's way, file by file, is in ``docs/house.md``. Names are imported when they are first used,
so that a subscriber needs no microscope.
"""

from typing import TYPE_CHECKING

from refocus.configs.lazy import lazy_names

if TYPE_CHECKING:
    from refocus.acquisition.hook import attach
    from refocus.acquisition.live import Live
    from refocus.acquisition.pipeline.frame import CapturedFrame, FrameResult
    from refocus.acquisition.pipeline.pipeline import Pipeline
    from refocus.acquisition.pipeline.sink import RunInfo, Sink
    from refocus.acquisition.pipeline.stats import Stats
    from refocus.acquisition.selection import Selection
    from refocus.acquisition.sinks.publisher import Publisher
    from refocus.stream.subscriber import ReceivedFrame, Subscription, subscribe

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
    "hook",
    "live",
    "selection",
    "signals",
    "subscribe",
]

__getattr__ = lazy_names(
    __name__,
    {
        "CapturedFrame": "refocus.acquisition.pipeline.frame",
        "FrameResult": "refocus.acquisition.pipeline.frame",
        "Live": "refocus.acquisition.live",
        "Pipeline": "refocus.acquisition.pipeline.pipeline",
        "Publisher": "refocus.acquisition.sinks.publisher",
        "ReceivedFrame": "refocus.stream.subscriber",
        "RunInfo": "refocus.acquisition.pipeline.sink",
        "Selection": "refocus.acquisition.selection",
        "Sink": "refocus.acquisition.pipeline.sink",
        "Stats": "refocus.acquisition.pipeline.stats",
        "Subscription": "refocus.stream.subscriber",
        "attach": "refocus.acquisition.hook",
        "subscribe": "refocus.stream.subscriber",
    },
)
