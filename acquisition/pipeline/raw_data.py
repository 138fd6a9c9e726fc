"""Reading the raw frames back that the acquisition itself has saved."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from refocus.acquisition.pipeline.arrival import sample
from refocus.acquisition.pipeline.deferred import Deferred
from refocus.acquisition.pipeline.frame import NO_PLACE, CapturedFrame
from refocus.acquisition.pipeline.sink import RunInfo
from refocus.engine.protocol import Frame

if TYPE_CHECKING:
    from collections.abc import Mapping

    from refocus.acquisition.pipeline.on_disk import Saved
    from refocus.acquisition.pipeline.plan import Where


class RawFrames(Protocol):
    """Raw data that are being saved, or were. All calls come from one thread."""

    def start(self, run: RunInfo) -> None:
        """Prepare for the frames of a run."""
        ...

    def read(self, frame: CapturedFrame) -> Frame | None:
        """Give a frame's pixels; None where they are not there, or not yet.

        Parameters
        ----------
        frame
            Its ``place`` is known.
        """
        ...


def read_back(raw: RawFrames, deferred: Deferred) -> Frame | None:
    """Give the pixels of a deferred frame; None where they are not there yet, or are others."""
    pixels, known = raw.read(deferred.frame), deferred.frame.pixels
    if pixels is None or pixels.shape != known.shape or pixels.dtype != known.dtype:
        return None
    return pixels if sample(pixels) == deferred.sample else None


class RawZarr:
    """The OME-Zarr of ``run_mda(sequence, output=PATH)``, while it is written and afterwards.

    Parameters
    ----------
    path
        Where the acquisition saves.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path).expanduser()  # as the acquisition does
        self._settings: Any = None
        self._run: RunInfo | None = None
        self._arrays: dict[str, Any] = {}

    def start(self, run: RunInfo) -> None:
        """Work out where each frame will lie."""
        from refocus.acquisition.pipeline.layout import layout

        self._arrays.clear()
        self._run, self._settings = run, None
        if "width" in run.camera:
            self._settings = layout(run, run.camera, self.path)

    def read(self, frame: CapturedFrame) -> Frame | None:
        """Give a frame's pixels; None where the file does not hold them yet."""
        from refocus.acquisition.pipeline.layout import locate

        if self._settings is None or frame.place in (None, NO_PLACE):
            return None
        at = locate(self._settings, frame.place)
        try:
            pixels = np.asarray(self._array(at.group, at.index)[at.index].read().result())
        except (ValueError, IndexError, OSError):
            self._arrays.pop(at.group, None)
            return None
        return pixels

    def gone(self) -> str:
        """Say what was removed of the file since the run began; empty where nothing was.

        Raises
        ------
        RefocusError
            It cannot be looked at now.
        """
        from refocus.acquisition.pipeline.on_disk import gone

        settings = self._settings  # of another run in a moment
        return gone(self.path, settings) if settings is not None else ""

    def saved(
        self,
        received: "Mapping[Where, int]",
        planned: "Mapping[Where, int] | None" = None,
        patience_s: float = 0.0,
    ) -> "Saved | None":
        """Say what the file holds; None where nobody can tell.

        Parameters
        ----------
        received, planned
            Frames by position and channel.
        patience_s
            How long frames may still take to appear.
        """
        from refocus.acquisition.pipeline.on_disk import look

        if self._run is None or self._settings is None or not received:
            return None
        until = time.monotonic() + patience_s
        while True:
            found = look(self._run, self._settings, self.path, received, planned)
            if found is None or not found.missing or time.monotonic() > until:
                return found
            time.sleep(0.1)

    def _array(self, group: str, index: tuple[int, ...]) -> Any:
        array = self._arrays.get(group)
        if array is None or any(i >= n for i, n in zip(index, array.shape, strict=False)):
            from refocus.acquisition.pipeline.on_disk import open_array

            array = self._arrays[group] = open_array(self.path / group / "0")
        return array
