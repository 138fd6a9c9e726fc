"""What a TIFF states of its pixels: their size, their channel, their bit depth.

OME-XML, ImageJ's notes, Micro-Manager's tags and plain TIFF tags are understood.
"""

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import tifffile

from refocus.optics.ome_zarr import MICROMETRES
from refocus.optics.paths import inside

PLAUSIBLE_UM = (0.01, 50.0)
"""Size of a pixel at the specimen; a plain TIFF often states that of a printer."""

MICRO_MANAGER = 51123
"""Tag of a page that holds Micro-Manager's metadata."""


class TiffNotes:
    """The notes of an open TIFF.

    Parameters
    ----------
    tiff
        The file.

    Raises
    ------
    RefocusError
        Its OME-XML names a file outside of its folder.
    """

    def __init__(self, tiff: tifffile.TiffFile) -> None:
        self._tiff = tiff
        path = Path(tiff.filehandle.path)
        self._pixels: list[Any] = []
        self._of_page: dict[int, tuple[int, int]] = {}
        if not (tiff.is_ome and tiff.ome_metadata):
            return
        try:
            root = ElementTree.fromstring(tiff.ome_metadata)
        except ElementTree.ParseError:
            return
        for element in root.iter():
            for key in ("FileName", "MetadataFile"):
                if named := element.get(key):
                    inside(path.parent, named, path)
        self._pixels = [e for e in root.iter() if _tag(e) == "Pixels"]
        for number, pixels in enumerate(self._pixels):
            self._place(number, pixels, path.name)

    def pixel_size_um(self, page: int = 0) -> float:
        """Give the size of a pixel of a page, µm; 0.0 where it is not known."""
        if self._pixels:
            pixels = self._pixels[self._where(page)[0]]
            sizes = [
                _number(pixels.get(f"PhysicalSize{side}"))
                * MICROMETRES.get(pixels.get(f"PhysicalSize{side}Unit", "µm"), 0.0)
                for side in "XY"
            ]
            return _one_size(sizes)
        first = self._tiff.pages[0].aspage()
        per_unit = first.resolution
        if not min(per_unit) > 0:
            return 0.0
        notes: Any = self._tiff.imagej_metadata or {}
        if notes:
            unit = str(notes.get("unit", "")).replace("\\u00B5", "µ")
            return _one_size([MICROMETRES.get(unit, 0.0) / number for number in per_unit])
        if first.resolutionunit != tifffile.RESUNIT.CENTIMETER:
            return 0.0
        size = _one_size([10_000.0 / number for number in per_unit])
        return size if PLAUSIBLE_UM[0] <= size <= PLAUSIBLE_UM[1] else 0.0

    def channel_name(self, page: int = 0) -> str:
        """Give the channel of a page; empty where it has no name."""
        if self._pixels:
            number, place = self._where(page)
            names = [c.get("Name") for c in self._pixels[number] if _tag(c) == "Channel"]
            return str(names[place] or "") if place < len(names) else ""
        return str(self._micro_manager(page).get("Channel", ""))

    def bit_depth(self, page: int = 0) -> int | None:
        """Give the significant bits of a pixel of a page; None where they are not stated."""
        if self._pixels:
            stated = self._pixels[self._where(page)[0]].get("SignificantBits")
        else:
            stated = self._micro_manager(page).get("BitDepth")
        bits = int(_number(stated))
        return bits if 0 < bits <= 16 else None

    def image(self, page: int) -> int:
        """Give the number of the image, such as a position, that a page is of."""
        return self._where(page)[0]

    def _where(self, page: int) -> tuple[int, int]:
        return self._of_page.get(page, (0, 0))

    def _micro_manager(self, page: int) -> dict[str, Any]:
        tag = self._tiff.pages[page].aspage().tags.get(MICRO_MANAGER)
        value = tag.value if tag else None
        if isinstance(value, str):
            try:
                value = json.loads(value)
            except ValueError:
                value = None
        return value if isinstance(value, dict) else {}

    def _place(self, number: int, pixels: Any, name: str) -> None:
        """Note the image and the channel of each page that an image's TiffData name."""
        sizes = {axis: int(_number(pixels.get(f"Size{axis}")) or 1) for axis in "ZCT"}
        order = pixels.get("DimensionOrder", "XYCZT")[2:]
        for data in (e for e in pixels if _tag(e) == "TiffData"):
            files = [e.get("FileName") for e in data if _tag(e) == "UUID"]
            if files and files[0] not in (None, name):
                continue
            first = int(_number(data.get("IFD")))
            count = int(_number(data.get("PlaneCount")) or (1 if data.get("IFD") else 0))
            count = min(count or sizes["Z"] * sizes["C"] * sizes["T"], len(self._tiff.pages))
            start, step = 0, 1
            for axis in order:
                start += int(_number(data.get(f"First{axis}"))) * step
                step *= sizes[axis]
            inner = 1
            for axis in order[: order.index("C")]:
                inner *= sizes[axis]
            for plane in range(count):
                self._of_page[first + plane] = (number, (start + plane) // inner % sizes["C"])


def _tag(element: Any) -> str:
    return str(element.tag).rpartition("}")[2]


def _number(text: Any) -> float:
    try:
        return float(text)
    except (TypeError, ValueError):
        return 0.0


def _one_size(sizes: list[float]) -> float:
    if min(sizes) <= 0.0 or abs(sizes[0] - sizes[1]) > 0.01 * max(sizes):
        return 0.0
    return sizes[0]


def file_pixel_size_um(path: Path) -> float:
    """Give the size of a pixel that an image file states, µm; 0.0 where it states none."""
    if path.suffix.lower() not in (".tif", ".tiff"):
        return 0.0
    try:
        with tifffile.TiffFile(path) as tiff:
            return TiffNotes(tiff).pixel_size_um()
    except (tifffile.TiffFileError, OSError, ValueError, IndexError):
        return 0.0  # whoever reads its pixels tells of a broken file
