"""What a program may want to be told while frames are being refocused.

```python
live.events.queue_full.connect(lambda stats: print(f"{stats.dropped} frames dropped so far"))
```

Slots are called on a thread of the pipeline's, never on the acquisition's; one that raises is
logged, and nothing else.
"""

from psygnal import Signal, SignalGroup

from refocus.acquisition.pipeline.stats import Stats


class LiveEvents(SignalGroup):
    """Signals of a pipeline, each with the ``Stats`` of that moment."""

    queue_high = Signal(Stats)
    """The queue became three quarters full."""
    queue_full = Signal(Stats)
    """The queue became full: frames are dropped, or deferred."""
    queue_eased = Signal(Stats)
    """The queue is less than half full again."""
    ticked = Signal(Stats)
    """Every second."""
    hung = Signal(Stats)
    """The engine or a sink did not return, and the run was given up."""
    finished = Signal(Stats)
    """The last frame of a run is settled."""
