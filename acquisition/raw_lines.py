"""What is known of each raw frame, written beside it as it comes.

The acquisition's own writer keeps that in memory until it closes the file. While somebody is
attached it is led to a file of lines, and copied from there once the writer is done.
"""

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from refocus.acquisition.sinks.frame_lines import FrameLines
from refocus.acquisition.sinks.ome_stream import (
    LedToLines,
    raw_stream,
    saves_elsewhere,
    store_black,
)

if TYPE_CHECKING:
    from pymmcore_plus import CMMCorePlus

logger = logging.getLogger("refocus.acquisition")


class RawLines:
    """Lines of the raw frames of a core's acquisitions. All but ``let_go`` on their thread.

    Parameters
    ----------
    core
        Whose.
    path
        The OME-Zarr that they are saved in; what is saved elsewhere is left alone.

    Attributes
    ----------
    path
        That OME-Zarr.
    elsewhere
        Whether the acquisition that began last is not saved there, for all that can be told.
    """

    def __init__(self, core: "CMMCorePlus", path: Path) -> None:
        self._core = core
        self.path = path
        self._led: LedToLines | None = None
        self.elsewhere = False

    def begin(self) -> None:
        """Take over from the writer, which has laid its file out and has no frame yet."""
        self._led = None
        self.elsewhere = saves_elsewhere(self._core, self.path)
        stream = raw_stream(self._core, self.path)
        if stream is None:
            return
        try:
            lines = FrameLines(self.path)
            self._led = LedToLines(stream, lines)
            store_black(stream)
        except Exception:  # whatever it is, the acquisition saves as it always did
            logger.exception("%s: its metadata are kept in memory", self.path)

    def end(self) -> None:
        """Copy the lines into the file, which the writer has closed."""
        led, self._led = self._led, None
        if led is None:
            return
        try:
            led.lines.copy_into_zarr()
        except (OSError, ValueError) as error:
            logger.error("%s: metadata not copied from the lines: %s", self.path, error)

    def let_go(self) -> None:
        """Give back to the writer, in mid-run, what it would have."""
        led, self._led = self._led, None
        if led is not None:
            led.give_back()
            led.lines.close()
