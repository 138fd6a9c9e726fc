"""What presets make of the camera, looked at before the first frame.

Presets with which nobody could refocus what the camera gives are refused. An OME-Zarr is laid out
once, before the first frame, so those that would change the size of a frame from channel to channel
are refused, too; what comes all the same is dealt with in :mod:`refocus.acquisition.raw_guard`.
"""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING

import useq
from pymmcore_plus.core import Keyword

from refocus.acquisition.command.sources import check_camera
from refocus.configs import RefocusError

if TYPE_CHECKING:
    from pymmcore_plus import CMMCorePlus

SIZING = ("binning", "pixeltype", "roi", "bitdepth")
"""Properties of a camera that change what a frame is, in lower case."""


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


def check_channels(sequence: useq.MDASequence, named: Iterable[str]) -> None:
    """Refuse a name that is of no channel of the sequence, nor of its sub-sequences.

    Raises
    ------
    RefocusError
        There is one; the message has the names that there are.
    """
    there = list(dict.fromkeys(channel.config for channel in _channels(sequence)))
    for name in named:
        if name not in there:
            has = f"it has {', '.join(there)}" if there else "it has none; leave --channel out"
            raise RefocusError(f"--channel {name}: no channel of this sequence; {has}")


def _channels(sequence: useq.MDASequence) -> Iterator[useq.Channel]:
    yield from sequence.channels
    for position in sequence.stage_positions:
        if isinstance(position, useq.Position) and position.sequence is not None:
            yield from _channels(position.sequence)


def _sizing(core: "CMMCorePlus", camera: str, channel: useq.Channel) -> dict[str, str]:
    """Read what a channel's preset sets of the camera that changes what a frame is."""
    settings = {}
    with suppress(RuntimeError, ValueError):  # no such preset: the acquisition says so itself
        for device, name, value in core.getConfigData(channel.group, channel.config):
            if device in (camera, Keyword.CoreDevice) and name.lower() in SIZING:
                settings[name] = value
    return settings
