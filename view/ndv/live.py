"""A live source for ndv: the newest frame of an endpoint, captured beside refocused.

The listener is that of the page. A timer of the GUI looks for the newest frame, so that neither
waits for the other; frames in between are not shown.
"""

from pathlib import Path
from typing import Any, Self

import ndv
import numpy as np
from numpy.typing import NDArray

from refocus.view.caption import of_frame, of_stream
from refocus.view.listener import Listener
from refocus.view.places import Shown, Wanted

LOOK_MS = 33


class LiveView:
    """An ndv viewer that shows the newest frame of a publisher.

    Parameters
    ----------
    endpoint
        Where frames are published; the publisher may start later, and again.
    keys
        The reader's folder of keys, where the publisher asks for them.
    wanted
        Which position, channel and plane to stay at; by default the run is followed.

    Attributes
    ----------
    viewer
        The ``ndv.ArrayViewer``; its ``widget()`` goes into a window of your own.

    Raises
    ------
    RefocusError
        The endpoint is not one, or there are no such keys.
    """

    def __init__(
        self, endpoint: str, keys: str | Path | None = None, wanted: Wanted | None = None
    ) -> None:
        self.viewer = ndv.ArrayViewer()
        self.wanted = wanted or Wanted()
        self._listener = Listener(endpoint, Path(keys) if keys is not None else None)
        self._shown: Shown | None = None
        self._open = True
        self._listener.start()
        self._look()

    @property
    def caption(self) -> str:
        """Verdict, distance from focus, queue and drops, in a line each."""
        _, state = self._listener.state(-1)
        lines = [of_frame(self._shown.frame.header)] if self._shown is not None else []
        return "\n".join([*lines, of_stream(state or {"phase": "", "stats": None})])

    def close(self) -> None:
        """Stop following; the last picture stays. May be called twice."""
        self._open = False
        self._listener.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _look(self) -> None:
        """Show the newest frame, if there is one since the last, and look again."""
        if not self._open:
            return
        shown = self._listener.newest(self.wanted)
        if shown is not None and shown is not self._shown:
            self._shown = shown
            self._show(both(shown))
        ndv.call_later(LOOK_MS, self._look)

    def _show(self, pixels: NDArray[Any]) -> None:
        wrapper = self.viewer.data_wrapper
        kinds = {(one.shape, one.dtype) for one in (pixels, wrapper.data)} if wrapper else ()
        if len(kinds) == 1:  # contrast and zoom stay as they are
            wrapper.data[...] = pixels
            wrapper.data_changed.emit()
            return
        self.viewer.data = pixels
        self.viewer.display_model.channel_axis = 0


def both(shown: Shown) -> NDArray[Any]:
    """Give captured and refocused pixels, ``(2, H, W)``, of the frame's dtype.

    Where the publisher sends no captured pixels, the first is as the second.
    """
    refocused, captured = shown.frame.pixels, shown.captured
    return np.stack([refocused if captured is None else captured, refocused])


def follow(endpoint: str = "tcp://127.0.0.1:5556", keys: str | Path | None = None) -> LiveView:
    """Show what a publisher sends in a window of ndv; see :class:`LiveView`."""
    live = LiveView(endpoint, keys)
    live.viewer.show()
    return live
