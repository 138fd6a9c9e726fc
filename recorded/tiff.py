"""Refocusing a TIFF page by page, so that its OME-XML (which counts pages) stays true.

The smaller levels of a pyramid, whether they hang from a page (SubIFDs) or follow it as pages of
their own, are made from the refocused plane, as they were made from the captured one.
"""

from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from refocus.configs import RefocusError
from refocus.optics.images import check_size
from refocus.optics.tiff_metadata import TiffNotes
from refocus.recorded.planes import Plane, check_pixels, shrink
from refocus.recorded.refocusing import About, Refocusing

LOSSLESS = (tifffile.COMPRESSION.NONE, tifffile.COMPRESSION.LZW, tifffile.COMPRESSION.ZSTD)
WRITTEN = {
    *tifffile.TIFF.TAG_FILTERED,
    *(254, 255, 270, 280, 281, 282, 283, 288, 289, 296, 301, 305, 320, 347),
    *(512, 513, 514, 515, 517, 518, 519, 520, 521, 529, 530, 531, 532),
}
"""Tags of the layout and those that are written for themselves."""
OFFSETS = (13, 18)
"""Types of tags that point to other places of the file."""
GREY = (tifffile.PHOTOMETRIC.MINISBLACK, tifffile.PHOTOMETRIC.MINISWHITE)


def count_tiff_planes(source: Path) -> int:
    """Count the planes of a TIFF, at full resolution."""
    with _open_tiff(source) as tiff:
        return sum(not _is_reduced(page.aspage()) for page in tiff.pages)


def process_tiff(source: Path, target: Path, name: str, work: Refocusing) -> None:
    """Rewrite a TIFF.

    Parameters
    ----------
    source, target
        The files.
    name
        What the target will be called in the end: a file's OME-XML refers to the file by name.
    work
        Refocuses the planes.

    Raises
    ------
    RefocusError
        The source is not readable, or holds pixels of the wrong kind.
    """
    with _open_tiff(source) as tiff:
        if tiff.is_imagej and len(tiff.pages) < int(np.prod(tiff.series[0].shape[:-2])):
            raise RefocusError(f"{source}: an ImageJ stack of one page; save it as OME-TIFF first")
        for number, page in enumerate(tiff.pages):
            _check_page(page.aspage(), f"{source}, page {number}")
        notes = TiffNotes(tiff)
        with tifffile.TiffWriter(
            target, bigtiff=tiff.is_bigtiff, byteorder=tiff.byteorder, ome=False
        ) as writer:
            latest: Plane | None = None
            for number, frame in enumerate(tiff.pages):
                page = frame.aspage()
                if latest is not None and _is_reduced(page):
                    _write(writer, shrink(latest, page.shape[-2:], latest.dtype), page)
                    continue
                about = About(
                    f"{source.name}, page {number}",
                    number,
                    notes.bit_depth(number),
                    notes.light_path(number),
                    notes.channel_name(number),
                    f"{source.name} {notes.image(number)}",
                    source,
                    in_stack=notes.in_stack(number),
                )
                latest = _refocused(page, work, about, source)
                text = page.description.replace(f'"{source.name}"', f'"{name}"')
                levels = [level.aspage() for level in page.pages or ()]
                mark = work.software if not number else ""
                _write(writer, latest, page, text, len(levels), mark=mark)
                for level in levels:
                    smaller = shrink(latest, level.shape[-2:], latest.dtype)
                    _write(writer, smaller, level, reduced=True)


def _check_page(page: tifffile.TiffPage, where: str) -> None:
    check_pixels(page.shape, page.dtype, where)
    if page.is_tiled:
        check_size((page.tilelength, page.tilewidth), f"{where}, a tile")


def _refocused(page: tifffile.TiffPage, work: Refocusing, about: About, source: Path) -> Plane:
    """Refocus a page as light, whichever way round it counts it; zeros where that fails."""
    inverted = page.photometric == tifffile.PHOTOMETRIC.MINISWHITE
    plane: Plane | None = None
    try:
        captured = _read_page(page, f"{source}, page {about.place}")
    except RefocusError as error:
        work.leave_out(about, error)
    else:
        plane = work.refocus(np.invert(captured) if inverted else captured, about)
    if plane is None:
        plane = np.zeros(page.shape, page.dtype.newbyteorder("=") if page.dtype else np.uint16)
    return np.invert(plane) if inverted else plane


def _open_tiff(path: Path) -> tifffile.TiffFile:
    try:
        tiff = tifffile.TiffFile(path)
        if not len(tiff.pages):
            tiff.close()
            raise ValueError("it holds no pages")
        return tiff
    except (tifffile.TiffFileError, OSError, ValueError) as error:
        raise RefocusError(f"{path}: not a readable TIFF ({error}); replace it") from error


def _is_reduced(page: tifffile.TiffPage) -> bool:
    return bool(page.subfiletype & tifffile.FILETYPE.REDUCEDIMAGE)


def _read_page(page: tifffile.TiffPage, where: str) -> Plane:
    try:
        pixels = page.asarray()
    except Exception as error:  # decoders raise whatever they like on a broken file
        raise RefocusError(f"{where}: not readable ({error}); replace the file") from error
    return np.ascontiguousarray(pixels, dtype=pixels.dtype.newbyteorder("="))


def _write(  # noqa: PLR0917
    writer: tifffile.TiffWriter,
    pixels: Plane,
    like: tifffile.TiffPage,
    description: str = "",
    levels: int = 0,
    reduced: bool = False,
    mark: str = "",
) -> None:
    kind: Any = like.photometric if like.photometric in GREY else "minisblack"
    writer.write(
        pixels,
        photometric=kind,
        description=description.encode() or None,
        metadata=None,
        compression=like.compression if like.compression in LOSSLESS else "zlib",
        tile=(like.tilelength, like.tilewidth) if like.is_tiled else None,
        resolution=like.resolution,
        resolutionunit=like.resolutionunit,
        software="; ".join(filter(None, (like.software, mark))) or None,
        extratags=_other_tags(like),
        subfiletype=tifffile.FILETYPE.REDUCEDIMAGE if reduced else like.subfiletype,
        subifds=levels or None,
        contiguous=False,
    )


def _other_tags(like: tifffile.TiffPage) -> list[tuple[int, int, int, bytes, bool]]:
    """Give the tags that say nothing of how pixels are stored, byte by byte as they stand."""
    found = []
    for tag in like.tags:
        if tag.code in WRITTEN or tag.dtype in OFFSETS:
            continue
        like.parent.filehandle.seek(tag.valueoffset)
        raw = like.parent.filehandle.read(tag.valuebytecount)
        found.append((tag.code, int(tag.dtype), tag.count, raw, False))
    return found
