"""One shape for all frames of a saved run.

An OME-Zarr is laid out once, before the first frame. Presets that would change the size of a frame
from channel to channel are refused before the run begins; what comes all the same is dealt with in
:mod:`refocus.acquisition.raw_guard`.
"""

from contextlib import suppress
from typing import TYPE_CHECKING

import useq
from pymmcore_plus.core import Keyword

from refocus.configs import RefocusError

if TYPE_CHECKING:
    from pymmcore_plus import CMMCorePlus

SIZING = ("binning", "pixeltype", "roi", "bitdepth")
"""Properties of a camera that change what a frame is, in lower case."""


def check_presets(core: "CMMCorePlus", sequence: useq.MDASequence) -> None:
    """See that the channels of a sequence agree on what a frame is, and set the camera so.

    Raises
    ------
    RefocusError
        Two channels set the same property of the camera to different values.
    """
    camera = core.getCameraDevice()
    said: dict[str, tuple[str, str]] = {}
    for channel in sequence.channels:
        with suppress(RuntimeError):  # no such preset: the acquisition says so itself
            for device, name, value in core.getConfigData(channel.group, channel.config):
                if device not in (camera, Keyword.CoreDevice) or name.lower() not in SIZING:
                    continue
                other, before = said.setdefault(name, (channel.config, value))
                if before != value:
                    raise RefocusError(
                        f"--save: channel {other} sets {name} of the camera to {before}, and "
                        f"channel {channel.config} to {value}: frames of two sizes do not fit one "
                        "raw.ome.zarr; set it alike, or acquire the channels in two runs"
                    )
    for name, (_, value) in said.items():  # the file is laid out before the first channel is set
        core.setProperty(camera, name, value)
