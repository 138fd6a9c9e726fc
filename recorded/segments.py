"""Windows of a TIFF page: the tiles or strips that they need, decoded once while they are near."""

import threading
from collections import OrderedDict
from pathlib import Path

import numpy as np
import tifffile
from numpy.typing import NDArray

from refocus.configs import RefocusError, reason_of
from refocus.recorded.planes import Plane

KEPT = 1 << 28
"""Bytes of decoded tiles and strips that are kept."""

_Key = tuple[int, int]


class _Kept:
    """Decoded segments of any file, the latest."""

    def __init__(self) -> None:
        self._segments: OrderedDict[_Key, tuple[tifffile.TiffPage, Plane]] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def get(self, page: tifffile.TiffPage, index: int) -> Plane | None:
        key = id(page), index
        with self._lock:
            if key not in self._segments:
                return None
            self._segments.move_to_end(key)
            return self._segments[key][1]

    def put(self, page: tifffile.TiffPage, index: int, pixels: Plane) -> None:
        key = id(page), index
        with self._lock:
            if key not in self._segments:
                self._segments[key] = page, pixels  # which keeps its id its own
                self._bytes += pixels.nbytes
            while self._bytes > KEPT:
                self._bytes -= self._segments.popitem(last=False)[1][1].nbytes


_kept = _Kept()


def read_window(
    path: Path, page: tifffile.TiffPage, sample: int, rows: slice, columns: slice
) -> Plane:
    """Read rows and columns of a page, as they are stored.

    Parameters
    ----------
    path
        Its file.
    page
        Of any compression, tiled or in strips.
    sample
        Which of the values of a pixel.

    Raises
    ------
    RefocusError
        A tile or a strip cannot be decoded.
    """
    if page.is_memmappable:
        return _stored(path, page, sample)[rows, columns].astype(_native(page))
    height, width = segment_shape(page)
    across = -(-page.imagewidth // width)
    down = -(-page.imagelength // height)
    first = sample * across * down if page.planarconfig == tifffile.PLANARCONFIG.SEPARATE else 0
    inner = 0 if first or page.samplesperpixel == 1 else sample
    shape = rows.stop - rows.start, columns.stop - columns.start
    window = np.zeros(shape, _native(page))
    for row in range(rows.start // height, -(-rows.stop // height)):
        for column in range(columns.start // width, -(-columns.stop // width)):
            top, left = row * height, column * width
            pixels = _segment(path, page, first + row * across + column)
            if pixels is None:  # a writer leaves out what is empty
                continue
            into = [
                slice(max(begin - wanted.start, 0), min(begin + size, wanted.stop) - wanted.start)
                for begin, size, wanted in (
                    (top, pixels.shape[0], rows),
                    (left, pixels.shape[1], columns),
                )
            ]
            y, x = rows.start + into[0].start - top, columns.start + into[1].start - left
            part = pixels[y:, x:, inner]
            window[into[0], into[1]] = part[
                : into[0].stop - into[0].start, : into[1].stop - into[1].start
            ]
    return window


def segment_shape(page: tifffile.TiffPage) -> tuple[int, int]:
    """Give the height and width of what is decoded at once of a page."""
    if page.is_memmappable:
        return 1, page.imagewidth
    if page.is_tiled:
        return page.tilelength, page.tilewidth
    return min(page.rowsperstrip, page.imagelength), page.imagewidth


def _native(page: tifffile.TiffPage) -> np.dtype[np.generic]:
    assert page.dtype is not None
    return page.dtype.newbyteorder("=")


def _stored(path: Path, page: tifffile.TiffPage, sample: int) -> Plane:
    """Map a page that is stored as it is."""
    assert page.dtype is not None
    order = page.dtype.newbyteorder(page.parent.byteorder)
    separate = page.planarconfig == tifffile.PLANARCONFIG.SEPARATE
    sides, values = (page.imagelength, page.imagewidth), (page.samplesperpixel,)
    shape = values + sides if separate else sides + values
    mapped = np.memmap(path, order, "r", page.dataoffsets[0], shape)
    return mapped[sample] if separate else mapped[..., sample]


def _segment(path: Path, page: tifffile.TiffPage, index: int) -> NDArray[np.generic] | None:
    kept = _kept.get(page, index)
    if kept is not None:
        return kept
    where = f"{path}, page {page.index}, {'tile' if page.is_tiled else 'strip'} {index}"
    try:
        offset, count = page.dataoffsets[index], page.databytecounts[index]
        if not count:
            return None
        with path.open("rb") as file:
            file.seek(offset)
            data = file.read(count)
        if len(data) < count:
            raise ValueError("the file ends before it")
        decoded = page.decode(data, index, jpegtables=page.jpegtables)[0]
        if decoded is None:
            return None
        pixels = np.ascontiguousarray(decoded[0], _native(page))
    except OSError:
        raise
    except Exception as error:  # decoders raise whatever they like on a broken file
        raise RefocusError(
            f"{where}: not readable ({reason_of(error)}); replace the file"
        ) from error
    _kept.put(page, index, pixels)
    return pixels
