"""A frame as a TIFF file: the exact pixels, and all that is known of them."""

import io
import json
from importlib.metadata import version

import numpy as np
import tifffile

from refocus.view.places import Shown


def snapshot(shown: Shown) -> bytes:
    """Write a frame as TIFF.

    Returns
    -------
    bytes
        A page of the refocused pixels, after one of the captured pixels where there are any. The
        description of each is the frame's header as JSON, with ``page`` and ``software``; the
        resolution is that of the specimen.
    """
    frame = shown.frame
    pages = {"captured": frame.raw} if frame.raw is not None else {}
    pages["refocused"] = frame.pixels
    header = frame.header.model_dump(mode="json", by_alias=True)
    software = f"refocus-live {version('refocus-live')}"
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as tiff:
        for name, pixels in pages.items():
            size = frame.header.pixel_size_um
            tiff.write(
                np.ascontiguousarray(pixels),
                photometric="minisblack",
                metadata=None,
                description=json.dumps({"page": name, "software": software, **header}),
                software=software,
                resolution=(1e4 / size, 1e4 / size) if size > 0 else None,
                resolutionunit="CENTIMETER" if size > 0 else None,
            )
    return file.getvalue()


def file_name(shown: Shown) -> str:
    """Give a name that says which frame it is, of letters, digits and ``-_`` only."""
    header = shown.frame.header
    axes = "".join(f"_{axis}{place}" for axis, place in sorted(header.index.items()))
    name = f"refocus_{header.run[:8]}_frame{header.frame:06d}{axes}_{header.channel}"
    safe = "".join(letter if letter.isascii() and letter.isalnum() else "_" for letter in name)
    return safe.strip("_") + ".tif"
