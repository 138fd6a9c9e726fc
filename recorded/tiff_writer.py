"""Pages of a TIFF like those of another: layout, compression, tags and levels are kept."""

import struct
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import tifffile

from refocus.recorded.levels import Shrinking
from refocus.recorded.planes import About, Plane, RecordedPlane
from refocus.recorded.rows import RowsFile, in_heights, shrunk_on_the_way
from refocus.recorded.segments import read_window

LOSSLESS = (
    tifffile.COMPRESSION.NONE,
    tifffile.COMPRESSION.LZW,
    tifffile.COMPRESSION.ZSTD,
    tifffile.COMPRESSION.ADOBE_DEFLATE,
)
WRITTEN = {
    *tifffile.TIFF.TAG_FILTERED,
    *(254, 255, 270, 280, 281, 282, 283, 288, 289, 296, 301, 305, 320, 347),
    *(512, 513, 514, 515, 517, 518, 519, 520, 521, 529, 530, 531, 532),
}
"""Tags of the layout and those that are written for themselves."""
DESCRIPTION, SOFTWARE = 270, 305
OFFSETS = (13, 18)
"""Types of tags that point to other places of the file."""
RATIONALS = {5: "I", 10: "i"}
"""Types of tags that are fractions, and that of the numbers in them."""
MASK = tifffile.FILETYPE.MASK
"""Is said of pages of one bit alone, which none of these is."""
REDUCED = (tifffile.FILETYPE.UNDEFINED, tifffile.FILETYPE.REDUCEDIMAGE)
"""Of a level; what hangs from a page need not say so."""
GREY = (tifffile.PHOTOMETRIC.MINISBLACK, tifffile.PHOTOMETRIC.MINISWHITE)
STRIP = 1 << 23
"""Bytes of a strip at most, where those of the page are larger."""

Rows = list[Iterator[Plane]]
"""Bands of rows of each value of a pixel."""


class PageWriter:
    """Writes pages whose pixels come band by band.

    Parameters
    ----------
    writer
        Of the file.
    source
        File of the pages that those are like.
    beside
        Levels wait in files beside it until their page is written.
    """

    def __init__(self, writer: tifffile.TiffWriter, source: Path, beside: Path) -> None:
        self._writer, self._source, self._beside = writer, source, beside

    def page(
        self,
        like: tifffile.TiffPage,
        rows: Rows,
        stays: list[bool],
        *,
        hanging: list[tifffile.TiffPage],
        following: list[tifffile.TiffPage],
        text: bytes,
        mark: str,
    ) -> None:
        """Write a page and those that belong to it: its smaller levels, and what stays as it is.

        Parameters
        ----------
        like
            The page that it replaces.
        rows
            Its pixels, as they are stored.
        stays
            Of each value of a pixel, whether it stays as captured, and its levels with it.
        hanging, following
            What hangs from that page (SubIFDs), and the reduced pages behind it.
        text, mark
            Its description, and who made it.
        """
        others = [*hanging, *following]
        levels = [n for n, other in enumerate(others) if _is_level(other, like, others)]
        made = [m for m, as_captured in enumerate(stays) if not as_captured]
        kept = {n: {m: self._wait(f"{n}-{m}", others[n]) for m in made} for n in levels}
        shape = like.imagelength, like.imagewidth
        sizes = {n: (others[n].imagelength, others[n].imagewidth) for n in levels}
        ways = [
            [(Shrinking(shape, sizes[n], like.dtype), kept[n][m]) for n in levels if m in made]
            for m in range(len(rows))
        ]
        try:
            passing = [shrunk_on_the_way(*pair) for pair in zip(rows, ways, strict=True)]
            self._write(like, passing, text, len(hanging), mark)
            for n, other in enumerate(others):
                stored = _as_it_is(self._source, other)
                for m, file in kept.get(n, {}).items():
                    stored[m] = file.bands()
                self._write(other, stored, text_of(self._source, other))
        finally:
            for file in (file for files in kept.values() for file in files.values()):
                file.close()

    def _wait(self, name: str, level: tifffile.TiffPage) -> RowsFile:
        path = self._beside.with_name(f".level-{name}")  # a name may be as long as names can be
        assert level.dtype is not None
        return RowsFile(path, level.imagewidth, level.dtype.newbyteorder("="))

    def _write(
        self,
        like: tifffile.TiffPage,
        rows: Rows,
        text: bytes,
        hanging: int = 0,
        mark: str = "",
    ) -> None:
        assert like.dtype is not None
        compression = like.compression if like.compression in LOSSLESS else ZLIB
        separate = like.planarconfig == tifffile.PLANARCONFIG.SEPARATE and len(rows) > 1
        shape: tuple[int, ...] = like.imagelength, like.imagewidth
        if len(rows) > 1:
            shape = (len(rows), *shape) if separate else (*shape, len(rows))
        tile = (like.tilelength, like.tilewidth) if like.is_tiled else None
        strip = None if tile else _strip(like, len(rows))
        groups = [[one] for one in rows] if separate else [rows]
        how = _How(compression, _differs(like, compression), self._writer.tiff.byteorder)
        self._writer.write(
            iter(_pieces(groups, tile, strip, how)),
            shape=shape,
            dtype=like.dtype.newbyteorder("="),
            photometric="rgb" if len(rows) > 1 else _grey(like),
            planarconfig=("separate" if separate else "contig") if len(rows) > 1 else None,
            extrasamples=like.extrasamples if len(rows) > 3 else None,
            description=text or None,
            metadata=None,
            compression=compression,
            predictor=how.differences or None,
            tile=tile,
            rowsperstrip=strip,
            resolution=like.resolution,
            resolutionunit=like.resolutionunit,
            colormap=like.colormap if _grey(like) == tifffile.PHOTOMETRIC.PALETTE else None,
            software=b"; ".join(
                filter(None, (text_of(self._source, like, SOFTWARE), mark.encode()))
            ),
            extratags=_other_tags(like, self._source),
            subfiletype=like.subfiletype & ~MASK,
            subifds=hanging or None,
            contiguous=False,
        )


ZLIB = tifffile.COMPRESSION.ADOBE_DEFLATE


def _is_level(
    one: tifffile.TiffPage, of: tifffile.TiffPage, others: list[tifffile.TiffPage]
) -> bool:
    """Tell a smaller level of a page from a label, a macro, a mask or a level of another page."""
    alike = (one.samplesperpixel, one.dtype) == (of.samplesperpixel, of.dtype)
    alone = [other.shape for other in others].count(one.shape) == 1
    sides = ((of.imagelength, one.imagelength), (of.imagewidth, one.imagewidth))
    # by how much both sides are smaller, up to a pixel of rounding
    least = max(large / (small + 1) for large, small in sides)
    most = min(large / max(small - 1, 1e-9) for large, small in sides)
    return alike and alone and one.subfiletype in REDUCED and least <= most


def _as_it_is(source: Path, page: tifffile.TiffPage) -> Rows:
    """Give the rows of a page as they are stored."""
    assert page.dtype is not None
    shape, dtype = (page.imagelength, page.imagewidth), page.dtype.newbyteorder("=")
    reads = (partial(read_window, source, page, n) for n in range(page.samplesperpixel))
    return [RecordedPlane(About(""), shape, dtype, read).bands(0, shape[0]) for read in reads]


def _grey(like: tifffile.TiffPage) -> Any:
    """Give the photometric of a page of one value: with its palette, where that fits a whole byte.

    Packed pixels are written as whole ones.
    """
    if like.photometric == tifffile.PHOTOMETRIC.PALETTE and like.dtype is not None:
        fits = like.colormap is not None and like.colormap.shape[1] == 2 ** (
            8 * like.dtype.itemsize
        )
        return like.photometric if fits else "minisblack"
    return like.photometric if like.photometric in GREY else "minisblack"


def _strip(like: tifffile.TiffPage, samples: int) -> int:
    """Give the rows of a strip."""
    assert like.dtype is not None
    most = max(1, STRIP // (like.imagewidth * samples * like.dtype.itemsize))
    return min(like.rowsperstrip, like.imagelength, most)


def _differs(like: tifffile.TiffPage, compression: int) -> bool:
    """Say whether rows are stored as differences of neighbours, which compress better."""
    plain = compression == tifffile.COMPRESSION.NONE
    return not plain and like.predictor == tifffile.PREDICTOR.HORIZONTAL


class _How(NamedTuple):
    """How pixels are stored: as differences or not, and in which order of bytes."""

    compression: int
    differences: bool
    order: str


def _pieces(
    groups: list[Rows], tile: tuple[int, int] | None, strip: int | None, how: _How
) -> Iterator[Any]:
    """Give the tiles of a page, or its strips encoded, in the order of the file."""
    for rows in groups:
        height = tile[0] if tile else strip or 1
        for parts in zip(*(in_heights(one, height) for one in rows), strict=True):
            band = parts[0] if len(parts) == 1 else np.stack(parts, -1)
            yield from _tiles(band, tile) if tile else [_encoded(band, how)]


def _tiles(band: Plane, tile: tuple[int, int]) -> Iterator[Plane]:
    for left in range(0, band.shape[1], tile[1]):
        part = band[:, left : left + tile[1]]
        lacks = tile[0] - part.shape[0], tile[1] - part.shape[1]
        more = [(0, 0)] * (part.ndim - 2)
        yield np.pad(part, [(0, lacks[0]), (0, lacks[1]), *more]) if any(lacks) else part


def _encoded(band: Plane, how: _How) -> bytes:
    if how.differences:
        band = np.concatenate([band[:, :1], band[:, 1:] - band[:, :-1]], 1)
    order: Any = how.order
    stored = np.ascontiguousarray(band, band.dtype.newbyteorder(order))
    if how.compression == tifffile.COMPRESSION.NONE:
        return stored.tobytes()
    encoded: bytes = tifffile.TIFF.COMPRESSORS[how.compression](stored)
    return encoded


def _other_tags(like: tifffile.TiffPage, source: Path) -> list[tuple[int, int, int, Any, bool]]:
    """Give the tags that say nothing of how pixels are stored, byte by byte as they stand."""
    found: list[tuple[int, int, int, Any, bool]] = []
    with source.open("rb") as file:
        for tag in like.tags:
            if tag.code in WRITTEN or tag.dtype in OFFSETS:
                continue
            kind, raw = int(tag.dtype), _raw(file, tag)
            # a rational is two numbers, which tifffile does not count in bytes
            pairs = f"{like.parent.byteorder}{2 * tag.count}{RATIONALS.get(kind, '')}"
            value = struct.unpack(pairs, raw) if kind in RATIONALS else raw
            found.append((tag.code, kind, tag.count, value, False))
    return found


def text_of(source: Path, page: tifffile.TiffPage, code: int = DESCRIPTION) -> bytes:
    """Give the text of a tag of a page as it is stored; nothing where it has none."""
    tag = page.tags.get(code)
    if tag is None:
        return b""
    with source.open("rb") as file:
        return _raw(file, tag).rstrip(b"\0")


def _raw(file: BinaryIO, tag: tifffile.TiffTag) -> bytes:
    file.seek(tag.valueoffset)
    return file.read(tag.valuebytecount)
