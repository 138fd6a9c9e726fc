"""One shape for all frames of a saved run, and for each frame its place.

Presets with which nobody could refocus what the camera gives are refused before the run begins. An
OME-Zarr is laid out once, before the first frame; so those that would change the size of a frame
from channel to channel are refused, too. A frame of another size that comes all the same is set
aside in a file of its own, its place in the raw data is left empty, and the run is stopped; and so
is the place left empty of a frame that the camera failed to give.
"""

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tifffile
import useq
from pymmcore_plus.core import Keyword

from refocus.acquisition.command.sources import check_camera
from refocus.acquisition.signals import connect_direct
from refocus.configs import RefocusError

if TYPE_CHECKING:
    from pymmcore_plus import CMMCorePlus

SIZING = ("binning", "pixeltype", "roi", "bitdepth")
"""Properties of a camera that change what a frame is, in lower case."""

Signal = Any
Payload = Any


def check_presets(core: "CMMCorePlus", sequence: useq.MDASequence, *, saved: bool) -> None:
    """See that every channel of a sequence, of sub-sequences too, leaves a camera that will do.

    Parameters
    ----------
    saved
        The frames are for one file: the camera is set as all channels agree, because the file is
        laid out before the first of them is.

    Raises
    ------
    RefocusError
        With a channel's settings nobody could refocus what the camera gives; or, for one file, two
        channels set the same property of the camera to different values.
    """
    camera = core.getCameraDevice()
    said: dict[str, tuple[str, str]] = {}
    before: dict[str, str] = {}
    try:
        for channel in _channels(sequence):
            settings = _sizing(core, camera, channel)
            for name, value in settings.items():
                other, agreed = said.setdefault(name, (channel.config, value))
                if saved and agreed != value:
                    raise RefocusError(
                        f"--save: channel {other} sets {name} of the camera to {agreed}, and "
                        f"channel {channel.config} to {value}: frames of two sizes do not fit one "
                        "raw.ome.zarr; set it alike, or acquire the channels in two runs"
                    )
                with suppress(RuntimeError):  # no such value: likewise
                    before.setdefault(name, core.getProperty(camera, name))
                    core.setProperty(camera, name, value)
            if settings:
                check_camera(core, f"channel {channel.config}: ")
    finally:
        for name, value in () if saved else before.items():
            core.setProperty(camera, name, value)


def _channels(sequence: useq.MDASequence) -> Iterator[useq.Channel]:
    yield from sequence.channels
    for position in sequence.stage_positions:
        if isinstance(position, useq.Position) and position.sequence is not None:
            yield from _channels(position.sequence)


def _sizing(core: "CMMCorePlus", camera: str, channel: useq.Channel) -> dict[str, str]:
    """Read what a channel's preset sets of the camera that changes what a frame is."""
    settings = {}
    with suppress(RuntimeError):  # no such preset: the acquisition says so itself
        for device, name, value in core.getConfigData(channel.group, channel.config):
            if device in (camera, Keyword.CoreDevice) and name.lower() in SIZING:
                settings[name] = value
    return settings


class Guard:
    """Looks at each frame before the acquisition saves it.

    Parameters
    ----------
    core
        Its acquisition is stopped at the first frame that does not fit.
    raw
        Where the acquisition saves.

    Attributes
    ----------
    error
        What did not fit; None while everything does.
    """

    def __init__(self, core: "CMMCorePlus", raw: Path) -> None:
        self.error: RefocusError | None = None
        self.aside = raw.with_name("raw-unfit")
        self._core = core
        self._raw = raw
        self._shape: tuple[int, ...] = ()
        self._dtype = ""
        self._count = 0

    def started(self, sequence: useq.MDASequence, summary: Mapping[str, Any]) -> None:
        """Take note of what the file was laid out for."""
        info = summary["image_infos"][0]
        self._shape, self._dtype = (info["height"], info["width"]), info["dtype"]

    def watch(self, inner: Callable[[Any], Iterable[Payload]], event: Any) -> Generator[Payload]:
        """Hand on what the engine gives for an event: None in place of a frame that is not saved.

        None makes pymmcore-plus leave a place of its file empty.
        """
        given, payloads = 0, iter(inner(event))
        with suppress(StopIteration):
            payload = next(payloads)
            while True:
                given += 1
                signal: Signal = yield self._fitting(payload)
                payload = payloads.send(signal)  # type: ignore[attr-defined]
        snapped = event.action is None or isinstance(event.action, useq.AcquireImage)
        if not given and snapped and not hasattr(event, "events"):
            yield from [None] * self._core.getNumberOfCameraChannels()

    def _fitting(self, payload: Payload) -> Payload:
        if payload is None or not self._shape:
            return payload
        pixels, event, _ = payload
        if pixels.shape == self._shape and pixels.dtype.name == self._dtype:
            return payload
        self._set_aside(pixels, event)
        self._core.mda.cancel()
        return None

    def _set_aside(self, pixels: Any, event: useq.MDAEvent) -> None:
        channel = f" of channel {event.channel.config}" if event.channel else ""
        index = " ".join(f"{axis}={n}" for axis, n in event.index.items())
        file = self.aside / f"{self._count:04d}_{index.replace(' ', '_').replace('=', '')}.tif"
        self._count += 1
        kept = f"it is kept in {self.aside}"
        try:
            self.aside.mkdir(exist_ok=True)
            tifffile.imwrite(file, pixels)
        except OSError as error:
            kept = f"it could not be kept in {self.aside}: {error.strerror or error}"
        self.error = self.error or RefocusError(
            f"{self._raw}: frame {index}{channel} is {_size(pixels.shape)} {pixels.dtype}, and the "
            f"file was laid out for {_size(self._shape)} {self._dtype}: the run was stopped, and "
            f"{kept}; give all channels the same binning, region and pixel type"
        )


@contextmanager
def guarded(core: "CMMCorePlus", raw: Path) -> Iterator[Guard]:
    """Look at each frame of a core's acquisitions before it is saved."""
    guard, engine = Guard(core, raw), core.mda.engine
    if engine is None:
        yield guard
        return
    inner = engine.exec_event
    connect_direct(core.mda.events.sequenceStarted, guard.started)
    engine.exec_event = lambda event: guard.watch(inner, event)  # type: ignore[method-assign]
    try:
        yield guard
    finally:
        del engine.exec_event
        core.mda.events.sequenceStarted.disconnect(guard.started)


def _size(shape: tuple[int, ...]) -> str:
    height, width, *colours = shape
    return f"{width}×{height}" + "".join(f"×{n}" for n in colours)
