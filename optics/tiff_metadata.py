"""What a TIFF states of its pixels: their light path, their channel, their bit depth.

OME-XML, ImageJ's notes, Micro-Manager's tags and plain TIFF tags are understood.
"""

import json
from collections.abc import Mapping
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import tifffile

from refocus.configs.light_path import PIXEL_UM, UNKNOWN, LightPath
from refocus.optics.ome_xml import light_paths, number, pixel_size_um, step_um, tag
from refocus.optics.ome_zarr import MICROMETRES, one_size
from refocus.optics.paths import inside

MICRO_MANAGER = 51123
"""Tag of a page that holds Micro-Manager's metadata."""


class TiffNotes:
    """The notes of an open TIFF.

    Parameters
    ----------
    tiff
        The file.

    Attributes
    ----------
    named
        What its OME-XML calls it: the name that it had when it was written.

    Raises
    ------
    RefocusError
        Its OME-XML names a file outside of its folder.
    ValueError
        Its OME-XML states an order of planes that is none.
    """

    def __init__(self, tiff: tifffile.TiffFile) -> None:
        self._tiff = tiff
        path = Path(tiff.filehandle.path)
        self.named = path.name
        self._pixels: list[ElementTree.Element] = []
        self._light_paths: list[tuple[LightPath, ...]] = []
        self._of_page: dict[int, tuple[int, int, int]] = {}
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
        images = [e for e in root.iter() if tag(e) == "Image"]
        self._pixels = [e for image in images for e in image if tag(e) == "Pixels"]
        self._light_paths = light_paths(root)
        self.named = _own_name(root, path.name)
        for image, pixels in enumerate(self._pixels):
            self._place(image, pixels, self.named)

    def pixel_size_um(self, page: int = 0) -> float:
        """Give the size of a pixel of a page, µm; 0.0 where it is not known."""
        if self._pixels:
            return pixel_size_um(self._pixels[self._where(page)[0]])
        noted = number(self._micro_manager(page).get("PixelSizeUm"))
        if PIXEL_UM[0] < noted < PIXEL_UM[1]:
            return noted
        first = self._tiff.pages[0].aspage()
        per_unit = first.resolution
        if not min(per_unit) > 0:
            return 0.0
        notes: Any = self._tiff.imagej_metadata or {}
        if notes:
            return one_size([_unit_um(notes) / per for per in per_unit])
        if first.resolutionunit != tifffile.RESUNIT.CENTIMETER:
            return 0.0
        size = one_size([10_000.0 / per for per in per_unit])
        # a plain TIFF often states the pixel of a printer
        return size if PIXEL_UM[0] <= size <= PIXEL_UM[1] else 0.0

    def light_path(self, page: int = 0) -> LightPath:
        """Give what is stated of the light path of a page."""
        if not self._pixels:
            return LightPath(self.pixel_size_um(page))
        image, channel, _ = self._where(page)
        channels = self._light_paths[image]
        found = channels[min(channel, len(channels) - 1)]
        return found if self._is_placed(page) else replace(found, emission_um=0.0)

    def channel_name(self, page: int = 0) -> str:
        """Give the channel of a page; empty where it has no name."""
        if self._pixels:
            image, place, _ = self._where(page)
            if not self._is_placed(page):
                return ""
            names = [c.get("Name") for c in self._pixels[image] if tag(c) == "Channel"]
            return str(names[place] or "") if place < len(names) else ""
        return str(self._micro_manager(page).get("Channel", ""))

    def bit_depth(self, page: int = 0) -> int | None:
        """Give the significant bits of a pixel of a page; None where they are not stated.

        By the notes, or as they are stored: packed pixels of 12 bits have no more.
        """
        if self._pixels:
            stated = self._pixels[self._where(page)[0]].get("SignificantBits")
        else:
            stated = self._micro_manager(page).get("BitDepth")
        bits = int(number(stated))
        if not 0 < bits <= 16:
            stored = self._tiff.pages[page].aspage()
            whole = stored.dtype is None or stored.bitspersample == 8 * stored.dtype.itemsize
            bits = 0 if whole else stored.bitspersample
        return bits if 0 < bits <= 16 else None

    def image(self, page: int) -> int:
        """Give the number of the image, such as a position, that a page is of."""
        return self._where(page)[0]

    def in_stack(self, page: int) -> bool:
        """Tell whether a page is one of several along z."""
        if self._pixels:
            return number(self._pixels[self.image(page)].get("SizeZ")) > 1
        notes: Any = self._tiff.imagej_metadata or {}
        return number(notes.get("slices")) > 1

    def step_um(self, page: int = 0, unstated: float = 0.0) -> float:
        """Give the step of a page's z-stack, µm; 0.0 where it is not known.

        ``unstated`` times what an ImageJ TIFF says, where that has no unit.
        """
        if self._pixels:
            return step_um(self._pixels[self.image(page)])
        notes: Any = self._tiff.imagej_metadata or {}
        unit = _unit_um(notes) if notes.get("unit") else unstated
        return number(notes.get("spacing")) * unit

    def z_um(self, page: int) -> float | None:
        """Say where a page lies in its z-stack, from its first plane; None where not known."""
        if not self.in_stack(page):
            return None
        if self._pixels:
            if page not in self._of_page:
                return None
            plane = self._of_page[page][2]
        else:
            notes: Any = self._tiff.imagej_metadata or {}
            channels = int(number(notes.get("channels")) or 1)
            plane = page // channels % int(number(notes["slices"]))
        step = self.step_um(page)
        return plane * step if step else None

    def _is_placed(self, page: int) -> bool:
        """Tell whether it is known which image and channel a page is of, or there is but one."""
        several = len(self._pixels) > 1 or number(self._pixels[0].get("SizeC")) > 1
        return page in self._of_page or not several

    def _where(self, page: int) -> tuple[int, int, int]:
        return self._of_page.get(page, (0, 0, 0))

    def _micro_manager(self, page: int) -> dict[str, Any]:
        tag = self._tiff.pages[page].aspage().tags.get(MICRO_MANAGER)
        value = tag.value if tag else None
        if isinstance(value, str):
            try:
                value = json.loads(value)
            except (ValueError, RecursionError):
                value = None
        return value if isinstance(value, dict) else {}

    def _place(self, image: int, pixels: Any, name: str) -> None:
        """Note image, channel and plane of each page that an image's TiffData name."""
        sizes = {axis: int(number(pixels.get(f"Size{axis}")) or 1) for axis in "ZCT"}
        stated = pixels.get("DimensionOrder", "XYCZT")
        if stated[:2] != "XY" or sorted(stated[2:]) != sorted("CZT"):
            raise ValueError(f"its OME-XML states {stated!r} as the order of its planes")
        order = stated[2:]
        for data in (e for e in pixels if tag(e) == "TiffData"):
            files = [e.get("FileName") for e in data if tag(e) == "UUID"]
            if files and files[0] not in (None, name):
                continue
            first = int(number(data.get("IFD")))
            count = int(number(data.get("PlaneCount")) or (1 if data.get("IFD") else 0))
            count = min(count or sizes["Z"] * sizes["C"] * sizes["T"], len(self._tiff.pages))
            start, step = 0, 1
            for axis in order:
                start += int(number(data.get(f"First{axis}"))) * step
                step *= sizes[axis]
            inner = {axis: prod(sizes[o] for o in order[: order.index(axis)]) for axis in "CZ"}
            for plane in range(count):
                channel, z = ((start + plane) // inner[axis] % sizes[axis] for axis in "CZ")
                self._of_page[first + plane] = image, channel, z


def _own_name(root: ElementTree.Element, name: str) -> str:
    """Say what OME-XML calls the file that it is in, which may have been renamed since."""
    parts = [e for e in root.iter() if tag(e) == "TiffData"]
    named = [(e.get("FileName"), e.text) for part in parts for e in part if tag(e) == "UUID"]
    if any(file == name for file, _ in named):
        return name
    own = root.get("UUID")
    if own is None:  # all that it names is one file, so that is this one
        files = {file for file, _ in named} if len(named) == len(parts) else set()
    else:
        files = {file for file, uuid in named if uuid == own}
    before = files.pop() if len(files) == 1 else None
    return before or name


def _unit_um(notes: Mapping[str, Any]) -> float:
    """Give the unit of ImageJ's lengths, µm; 0.0 where it is none."""
    unit = str(notes.get("unit", "")).replace("\\u00B5", "µ")
    return MICROMETRES.get(unit, MICROMETRES.get(unit.casefold(), 0.0))


def file_light_path(path: Path) -> LightPath:
    """Give what an image file states of the light path of its first page."""
    if path.suffix.lower() not in (".tif", ".tiff"):
        return UNKNOWN
    try:
        with tifffile.TiffFile(path) as tiff:
            return TiffNotes(tiff).light_path()
    except (tifffile.TiffFileError, OSError, ValueError, IndexError):
        return UNKNOWN  # whoever reads its pixels tells of a broken file
