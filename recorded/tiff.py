"""Refocusing a TIFF page by page, so that its OME-XML (which counts pages) stays true.

The smaller levels of a pyramid, whether they hang from a page (SubIFDs) or follow it as pages of
their own, are made from the refocused plane, as they were made from the captured one.
"""

from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from refocus.configs import RefocusError
from refocus.recorded.planes import Plane, Refocus, check_pixels, shrink

LOSSLESS = (tifffile.COMPRESSION.NONE, tifffile.COMPRESSION.LZW, tifffile.COMPRESSION.ZSTD)
GREY = (tifffile.PHOTOMETRIC.MINISBLACK, tifffile.PHOTOMETRIC.MINISWHITE)


def count_tiff_planes(source: Path) -> int:
    """Count the planes of a TIFF, at full resolution."""
    with _open_tiff(source) as tiff:
        return sum(not _is_reduced(page.aspage()) for page in tiff.pages)


def process_tiff(source: Path, target: Path, name: str, refocus: Refocus) -> None:
    """Rewrite a TIFF.

    Parameters
    ----------
    source, target
        The files.
    name
        What the target will be called in the end: a file's OME-XML refers to the file by name.
    refocus
        Refocuses a plane.

    Raises
    ------
    RefocusError
        The source is not readable, or holds pixels of the wrong kind.
    """
    with _open_tiff(source) as tiff:
        if tiff.is_imagej and len(tiff.pages) < int(np.prod(tiff.series[0].shape[:-2])):
            raise RefocusError(f"{source}: an ImageJ stack of one page; save it as OME-TIFF first")
        for number, page in enumerate(tiff.pages):
            check_pixels(page.shape, page.dtype, f"{source}, page {number}")
        with tifffile.TiffWriter(
            target, bigtiff=tiff.is_bigtiff, byteorder=tiff.byteorder, ome=False
        ) as writer:
            latest: Plane | None = None
            for number, frame in enumerate(tiff.pages):
                page = frame.aspage()
                if latest is not None and _is_reduced(page):
                    _write(writer, shrink(latest, page.shape[-2:]), page)
                    continue
                where = f"page {number}"
                captured = _read_page(page, f"{source}, {where}")
                latest = _refocused(captured, page, refocus, f"{source.name}, {where}")
                text = page.description.replace(f'"{source.name}"', f'"{name}"')
                levels = [level.aspage() for level in page.pages or ()]
                _write(writer, latest, page, text, len(levels))
                for level in levels:
                    _write(writer, shrink(latest, level.shape[-2:]), level, reduced=True)


def _refocused(captured: Plane, page: tifffile.TiffPage, refocus: Refocus, where: str) -> Plane:
    """Refocus a plane as light, whichever way round the page counts it; zeros where that fails."""
    inverted = page.photometric == tifffile.PHOTOMETRIC.MINISWHITE
    plane = refocus(np.invert(captured) if inverted else captured, where)
    if plane is None:
        plane = np.zeros_like(captured)
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
        software=like.software or None,
        subfiletype=tifffile.FILETYPE.REDUCEDIMAGE if reduced else like.subfiletype,
        subifds=levels or None,
        contiguous=False,
    )
