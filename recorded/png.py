"""A PNG: every chunk that is not pixels is kept as it stands."""

import io
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from refocus.optics.images import read_image
from refocus.recorded.data_set import DataSet, Marks
from refocus.recorded.planes import About, Bands, Plane, RecordedPlane

SIGNATURE = b"\x89PNG\r\n\x1a\n"
OF_PIXELS = {b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"acTL", b"fcTL", b"fdAT"}

Chunk = tuple[bytes, bytes]


class Png(DataSet):
    """A PNG of one monochrome plane.

    Parameters
    ----------
    source
        The file.

    Raises
    ------
    RefocusError
        It is not readable, or holds pixels of the wrong kind.
    """

    suffixes = (".png",)

    def __init__(self, source: Path) -> None:
        super().__init__(source)
        pixels = read_image(source)
        depths = [data[0] for kind, data in self._chunks if kind == b"sBIT" and data]
        depth = depths[0] if depths else None
        about = About(source.name, source.name, depth, position=source.name, image=source)
        shape = pixels.shape[0], pixels.shape[1]
        self.planes.append(RecordedPlane(about, shape, pixels.dtype, self._read))

    def write(self, target: Path, name: str, bands: Bands, marks: Marks) -> None:
        """Write the same with other pixels."""
        plane = np.concatenate(list(bands.rows(0)))
        written = io.BytesIO()
        Image.fromarray(plane).save(written, format="PNG")
        header, *pixels = [c for c in _split(written.getvalue()) if c[0] in OF_PIXELS]
        kinds = [kind for kind, _ in self._chunks]
        middle = kinds.index(b"IDAT")
        mark = (b"tEXt", b"Software\0" + marks.software.encode("latin-1", "replace"))
        before = [c for c in self._chunks[:middle] if c[0] not in OF_PIXELS]
        after = [c for c in self._chunks[middle:] if c[0] not in OF_PIXELS]
        kept = [header, *before, mark, *pixels[:-1], *after, pixels[-1]]
        target.write_bytes(SIGNATURE + b"".join(_pack(*chunk) for chunk in kept))

    def _read(self, rows: slice, columns: slice) -> Plane:
        return np.ascontiguousarray(read_image(self.source)[rows, columns])

    @property
    def _chunks(self) -> list[Chunk]:
        return list(_split(self.source.read_bytes()))


def _split(content: bytes) -> Iterator[Chunk]:
    at = len(SIGNATURE)
    while at + 8 <= len(content):
        (length,) = struct.unpack(">I", content[at : at + 4])
        yield content[at + 4 : at + 8], content[at + 8 : at + 8 + length]
        at += 12 + length


def _pack(kind: bytes, data: bytes) -> bytes:
    check = zlib.crc32(kind + data)
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", check)
