"""A TIFF: its planes, and the same page by page, so that its OME-XML (which counts pages) is true.

The smaller levels of a pyramid, whether they hang from a page (SubIFDs) or follow it as pages of
their own, are made from the refocused plane, as they were made from the captured one. Other reduced
pages, such as a label or a macro of a scanner, stay as they are.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from html import unescape
from pathlib import Path
from xml.sax.saxutils import quoteattr

import numpy as np
import tifffile

from refocus.configs import RefocusError, reason_of
from refocus.optics.tiff_metadata import TiffNotes
from refocus.recorded.colours import COLOURS, colours_of
from refocus.recorded.data_set import DataSet, Marks
from refocus.recorded.planes import (
    About,
    Bands,
    Plane,
    RecordedPlane,
    check_piece,
    check_pixels,
    log,
)
from refocus.recorded.segments import read_window, segment_shape
from refocus.recorded.tiff_writer import PageWriter, text_of

CLASSIC = (1 << 32) - (1 << 25)
"""Bytes that a TIFF can hold that is no BigTIFF, but for its tags."""

HEADERS = (54773648, 483729)
"""Stand behind the header of a TIFF that Micro-Manager wrote, or an NDTiff."""


@dataclass
class _Page:
    """A page at full resolution, the planes that it holds, and what hangs from it or follows it."""

    page: tifffile.TiffPage
    planes: range
    hanging: list[tifffile.TiffPage]
    following: list[tifffile.TiffPage] = field(default_factory=list)


class Tiff(DataSet):
    """A TIFF of monochrome planes, or of colours of which one is named.

    Parameters
    ----------
    source
        The file.
    channels
        Those that are to be refocused; all where none is named.

    Raises
    ------
    RefocusError
        It is not readable, or holds pixels of the wrong kind.
    """

    suffixes = (".tif", ".tiff")

    def __init__(self, source: Path, channels: tuple[str, ...] = ()) -> None:
        super().__init__(source)
        self._pages: list[_Page] = []
        with _open_tiff(source) as tiff:
            notes = _read_notes(tiff, source)
            self._named = notes.named
            _check_axes(tiff, source)
            self._big, self._order = tiff.is_bigtiff, tiff.byteorder
            self._has_more = _is_micro_manager(tiff)
            for number, frame in enumerate(tiff.pages):
                page = frame.aspage()
                levels = [level.aspage() for level in page.pages or ()]
                for one in (page, *levels):
                    _check_page(one, f"{source}, page {number}")
                    colours_of(one, COLOURS, f"{source}, page {number}")
                if page.is_reduced and self._pages:
                    self._pages[-1].following.append(page)
                    continue
                self._add(page, levels, number, notes, channels)

    def write(self, target: Path, name: str, bands: Bands, marks: Marks) -> None:
        """Write the same with other pixels: pages, levels, tags, tiles, compression."""
        if self._has_more:
            log.warning(
                "%s: summary and comments of Micro-Manager are not taken along", self.source
            )
        pages = [p for one in self._pages for p in (one.page, *one.hanging, *one.following)]
        size = sum(page.nbytes for page in pages)
        with tifffile.TiffWriter(
            target, bigtiff=self._big or size > CLASSIC, byteorder=self._order, ome=False
        ) as writer:
            out = PageWriter(writer, self.source, target)
            for first, one in enumerate(self._pages):
                out.page(
                    one.page,
                    [_stored(one.page, bands.rows(number)) for number in one.planes],
                    [bands.stays(number) for number in one.planes],
                    hanging=one.hanging,
                    following=one.following,
                    text=_renamed(text_of(self.source, one.page), self._named, name),
                    mark="" if first else marks.software,
                )

    def _add(
        self,
        page: tifffile.TiffPage,
        levels: list[tifffile.TiffPage],
        number: int,
        notes: TiffNotes,
        channels: tuple[str, ...],
    ) -> None:
        assert page.dtype is not None
        colours = colours_of(page, channels, f"{self.source}, page {number}")
        begins = len(self.planes)
        for sample, colour in enumerate(colours):
            about = About(
                f"{self.source.name}, page {number}" + (f", {colour}" if colour else ""),
                f"{number} {colour}" if colour else number,
                notes.bit_depth(number),
                notes.light_path(number),
                colour or notes.channel_name(number),
                f"{self.source.name} {notes.image(number)}",
                self.source,
                in_stack=notes.in_stack(number),
                z_um=notes.z_um(number),
            )
            shape, dtype = (page.imagelength, page.imagewidth), page.dtype.newbyteorder("=")
            read = partial(_read, self.source, page, sample)
            self.planes.append(RecordedPlane(about, shape, dtype, read))
        planes = range(begins, len(self.planes))
        self._pages.append(_Page(page, planes, levels))


def _renamed(stored: bytes, old: str, new: str) -> bytes:
    """Let the description of a file, in XML or not, name another one where it names that file."""
    if new == old:
        return stored
    new = new.encode(errors="backslashreplace").decode()  # a name that is no UTF-8 is in no XML
    text = stored.decode(errors="surrogateescape")  # bytes of any encoding stay as they are
    if not text.lstrip().startswith("<"):
        return text.replace(f'"{old}"', f'"{new}"').encode(errors="surrogateescape")

    def named(found: re.Match[str]) -> str:
        return found[1] + quoteattr(new) if unescape(found[2][1:-1]) == old else found[0]

    text = re.sub(r"""(\b(?:FileName|MetadataFile)\s*=\s*)("[^"]*"|'[^']*')""", named, text)
    return text.encode(errors="surrogateescape")


def _read(source: Path, page: tifffile.TiffPage, sample: int, rows: slice, columns: slice) -> Plane:
    """Read a window as light, whichever way round the page counts it."""
    pixels = read_window(source, page, sample, rows, columns)
    return np.invert(pixels) if _is_inverted(page) else pixels


def _stored(page: tifffile.TiffPage, bands: Iterator[Plane]) -> Iterator[Plane]:
    return (np.invert(band) for band in bands) if _is_inverted(page) else bands


def _is_inverted(page: tifffile.TiffPage) -> bool:
    return bool(page.photometric == tifffile.PHOTOMETRIC.MINISWHITE)


def _open_tiff(path: Path) -> tifffile.TiffFile:
    try:
        tiff = tifffile.TiffFile(path)
        if not len(tiff.pages):
            tiff.close()
            raise ValueError("it holds no pages")
        return tiff
    except (tifffile.TiffFileError, OSError, ValueError) as error:
        raise RefocusError(
            f"{path}: not a readable TIFF ({reason_of(error)}); replace it"
        ) from error


def _is_micro_manager(tiff: tifffile.TiffFile) -> bool:
    """Tell a file of Micro-Manager, or an NDTiff, which hold metadata beside those of the pages."""
    tiff.filehandle.seek(8)
    found = int.from_bytes(tiff.filehandle.read(4), "little" if tiff.byteorder == "<" else "big")
    return found in HEADERS


def _read_notes(tiff: tifffile.TiffFile, source: Path) -> TiffNotes:
    try:
        return TiffNotes(tiff)
    except ValueError as error:
        raise RefocusError(f"{source}: {error}; save it as OME-TIFF again") from error


def _check_axes(tiff: tifffile.TiffFile, source: Path) -> None:
    """Refuse a file whose pages are no planes along y and x, each of which has its own."""
    for series in tiff.series:
        # counted by values: axes differ from format to format, and pages are those of a whole set
        several = series.size > len(series.pages) * series.keyframe.size
        if several or series.keyframe.imagedepth > 1:
            raise RefocusError(
                f"{source}: has several planes in one page, as ImageJ and MetaMorph write stacks; "
                "save it as OME-TIFF, each plane as a page of its own"
            )
        axes = series.axes.replace("S", "")
        if {"Y", "X"} <= set(axes) and axes[-2:] != "YX":
            raise RefocusError(
                f"{source}: its axes are {', '.join(axes.lower())}, so its pages are no planes "
                "along y and x; save it with y and x as the last ones"
            )


def _check_page(page: tifffile.TiffPage, where: str) -> None:
    """Refuse a page whose pixels are of the wrong kind, not all there, or in pieces too large."""
    shape = page.imagelength, page.imagewidth
    check_pixels(shape, page.dtype, where)
    palette = page.colormap if page.photometric == tifffile.PHOTOMETRIC.PALETTE else None
    shown = page.parent.is_imagej  # whose palettes are for the screen: the pixels are the light
    if palette is not None and not shown and (np.diff(palette.astype(np.int64)) < 0).any():
        raise RefocusError(
            f"{where}: has a colour palette that is no ramp, but a monochrome image is needed; "
            "save the camera's own grey values"
        )
    height, width = segment_shape(page)
    check_piece((height, width, page.samplesperpixel), page.dtype, f"{where}: one piece")
    pieces = -(-shape[0] // height) * -(-shape[1] // width)
    there = len(page.dataoffsets)
    if page.is_memmappable:
        there = (page.parent.filehandle.size - page.dataoffsets[0]) // max(1, page.nbytes // pieces)
    if there < pieces:
        raise RefocusError(
            f"{where}: asks for {shape[1]}×{shape[0]} pixels, and the file holds fewer; replace it"
        )
    _ = page.decode  # is made once, and of JPEG looks into the file, which is open now
