"""Frames as an OME-TIFF: the exact pixels, and all that is known of them."""

import io
import json
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

import numpy as np
import tifffile

from refocus.configs.command import printable
from refocus.configs.light_path import PIXEL_UM, within
from refocus.view.places import Shown


def snapshot(frames: Sequence[Shown]) -> bytes:
    """Write frames of one place, one for each of its channels, as OME-TIFF.

    Parameters
    ----------
    frames
        At least one, all of the same size and type.

    Returns
    -------
    bytes
        A file of the axes CYX, of each frame the refocused pixels, after the captured ones where
        there are any. The names of the channels say which is which; the description of the image is
        the headers of the frames as JSON.

    Raises
    ------
    ValueError
        The frames differ in size or type.
    """
    pages = [
        (printable(f"{shown.place.c} {side}".strip()), shown, pixels)
        for shown in frames
        for side, pixels in (("captured", shown.frame.raw), ("refocused", shown.frame.pixels))
        if pixels is not None
    ]
    stack = [pixels for _, _, pixels in pages]
    if len({(one.shape, one.dtype) for one in stack}) > 1:
        raise ValueError("the channels differ in size or type; save them one by one")
    size = _size_um(frames)
    metadata: dict[str, Any] = {
        "axes": "CYX",
        **_describe(frames),
        "Channel": {"Name": [name for name, _, _ in pages]},
        "Plane": {
            "ExposureTime": [one.frame.header.exposure_ms for _, one, _ in pages],
            "ExposureTimeUnit": ["ms"] * len(pages),
        },
    }
    file = io.BytesIO()
    tifffile.imwrite(
        file,
        np.stack([np.ascontiguousarray(one) for one in stack]),
        ome=True,
        photometric="minisblack",
        metadata=metadata,
        software=_software(),
        resolution=(1e4 / size, 1e4 / size) if size > 0 else None,
        resolutionunit="CENTIMETER" if size > 0 else None,
    )
    return file.getvalue()


def _describe(frames: Sequence[Shown]) -> dict[str, Any]:
    """Say what is known of the image: of the first frame, and in the description of all."""
    headers = [one.frame.header for one in frames]
    said = [header.model_dump(mode="json", by_alias=True) for header in headers]
    size = _size_um(frames)
    sizes = {f"PhysicalSize{axis}": size for axis in "XY"}
    return {
        "Name": file_name(frames).removesuffix(".ome.tif"),
        "Description": json.dumps({"software": _software(), "frames": said}),
        "AcquisitionDate": printable(headers[0].captured_utc[:19]),
        "SignificantBits": headers[0].bit_depth,
        **(sizes | {f"{name}Unit": "µm" for name in sizes} if size > 0 else {}),
    }


def _size_um(frames: Sequence[Shown]) -> float:
    """Give the size of a pixel; 0 where it is not known, or cannot be that of a microscope."""
    return within(PIXEL_UM, frames[0].frame.header.pixel_size_um)


def _software() -> str:
    return f"refocus-live {version('refocus-live')}"


def file_name(frames: Sequence[Shown]) -> str:
    """Give a name that says which frames they are, of letters, digits and ``-_`` only."""
    header = frames[0].frame.header
    axes = "".join(f"_{axis}{place}" for axis, place in sorted(header.index.items()))
    channels = "_".join(one.frame.header.channel for one in frames)
    name = f"refocus_{header.run[:8]}_frame{header.frame:06d}{axes}_{channels}"
    safe = "".join(letter if letter.isascii() and letter.isalnum() else "_" for letter in name)
    return safe.strip("_")[:150] + ".ome.tif"
