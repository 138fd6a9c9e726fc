"""For each raw frame its place, whatever the camera does, and whatever becomes of the disk.

A frame of another size than the file was laid out for is set aside in a file of its own, and its
place in the raw data is left empty; so is that of a frame that the camera failed to give.
"""

import logging
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import tifffile
import useq

from refocus.acquisition.exec_event import ExecEvent, Payload, Signal, given, watched
from refocus.acquisition.signals import connect_direct
from refocus.acquisition.sinks.ome_stream import raw_stream, unwritten
from refocus.configs import RefocusError, reason_of

if TYPE_CHECKING:
    from pymmcore_plus import CMMCorePlus

logger = logging.getLogger("refocus.acquisition")


class Guard:
    """Looks at each frame before the acquisition saves it.

    Parameters
    ----------
    core
        Whose acquisitions. Those that save elsewhere are left alone.
    raw
        Where they save.

    Attributes
    ----------
    error
        What did not fit first; None while everything does.
    stops
        Stop the acquisition at the first frame that does not fit.
    ask
        Called before each event, and with each frame before it is saved. A :class:`RefocusError`
        that it raises stops the acquisition, before the event or behind the frame.
    on
        Whether it still looks.
    """

    def __init__(self, core: "CMMCorePlus", raw: Path) -> None:
        self.error: RefocusError | None = None
        self.stops = False
        self.ask: Callable[[], None] = lambda: None
        self.on = True
        self.aside = raw.with_name("raw-unfit")
        self._core = core
        self._raw = raw
        self._stream: Any = None
        self._shape: tuple[int, ...] = ()
        self._dtype = ""
        self._count = 0

    def started(self, sequence: useq.MDASequence, summary: Mapping[str, Any]) -> None:
        """Take note of what the file was laid out for."""
        self._shape = ()
        self._stream = raw_stream(self._core, self._raw)
        if self._stream is None:
            return
        info = summary["image_infos"][0]
        self._shape, self._dtype = (info["height"], info["width"]), info["dtype"]

    @property
    def unwritten(self) -> int:
        """How many of the frames that were saved are not on the disk yet. For any thread."""
        return unwritten(self._stream)

    def watch(self, inner: ExecEvent, event: Any) -> Generator[Payload, Signal]:
        """Hand on what the engine gives for an event: None in place of a frame that is not saved.

        None makes pymmcore-plus leave a place of its file empty.
        """
        if not self._goes_on():
            return
        count, payloads = 0, given(inner, event)
        with suppress(StopIteration):
            payload = next(payloads)
            while True:
                count += 1
                payload = payloads.send((yield self._fitting(payload)))
        snapped = event.action is None or isinstance(event.action, useq.AcquireImage)
        if not count and snapped and not hasattr(event, "events"):
            yield from [None] * self._core.getNumberOfCameraChannels()

    def _goes_on(self) -> bool:
        try:
            self.ask()
        except RefocusError as error:
            self.error = self.error or error
            self._core.mda.cancel()
            return False
        return True

    def _fitting(self, payload: Payload) -> Payload:
        if payload is not None:
            self._goes_on()
        if payload is None or not self._shape:
            return payload
        pixels, event, _ = payload
        if pixels.shape == self._shape and pixels.dtype.name == self._dtype:
            return payload
        self._set_aside(pixels, event)
        if self.stops:
            self._core.mda.cancel()
        return None

    def _set_aside(self, pixels: Any, event: useq.MDAEvent) -> None:
        channel = f" of channel {event.channel.config}" if event.channel else ""
        index = " ".join(f"{axis}={n}" for axis, n in event.index.items())
        kept = f"it is kept in {self.aside}"
        try:
            self.aside.mkdir(exist_ok=True)
            with self._new_file(index.replace(" ", "_").replace("=", "")) as file:
                tifffile.imwrite(file, pixels)
        except OSError as error:
            kept = f"it could not be kept in {self.aside}: {reason_of(error)}"
        if self.error is not None:
            return
        stopped = "the run was stopped, and " if self.stops else ""
        self.error = RefocusError(
            f"{self._raw}: frame {index}{channel} is {_size(pixels.shape)} {pixels.dtype}, and the "
            f"file was laid out for {_size(self._shape)} {self._dtype}: {stopped}"
            f"{kept}; give all channels the same binning, region and pixel type"
        )
        if not self.stops:
            logger.error("%s", self.error)

    def _new_file(self, of: str) -> IO[bytes]:
        """Open a file that was not there: other runs keep theirs in the same folder."""
        while True:
            file = self.aside / f"{self._count:04d}_{of}.tif"
            self._count += 1
            with suppress(FileExistsError):
                return file.open("x+b")


@contextmanager
def guarded(core: "CMMCorePlus", raw: Path) -> Iterator[Guard]:
    """Look at each frame of a core's acquisitions before it is saved."""
    guard = Guard(core, raw)
    connect_direct(core.mda.events.sequenceStarted, guard.started)
    try:
        with watched(core, guard):
            yield guard
    finally:
        core.mda.events.sequenceStarted.disconnect(guard.started)


def _size(shape: tuple[int, ...]) -> str:
    height, width, *colours = shape
    return f"{width}×{height}" + "".join(f"×{n}" for n in colours)
