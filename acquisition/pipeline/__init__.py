"""One bounded queue and one worker: a captured frame in, a result at every sink, accounts exact.

Knows neither Micro-Manager nor ZeroMQ: frames come from whoever submits them.
"""

__all__ = [
    "arrival",
    "events",
    "frame",
    "layout",
    "on_disk",
    "pipeline",
    "plan",
    "processing",
    "queue",
    "raw_data",
    "sink",
    "stats",
]
