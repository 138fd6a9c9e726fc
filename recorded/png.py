"""Refocusing a PNG: every chunk that is not pixels is kept as it stands."""

import io
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from refocus.optics.images import read_image
from refocus.recorded.refocusing import About, Refocusing

SIGNATURE = b"\x89PNG\r\n\x1a\n"
OF_PIXELS = {b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"acTL", b"fcTL", b"fdAT"}

Chunk = tuple[bytes, bytes]


def process_png(source: Path, target: Path, name: str, work: Refocusing) -> None:
    """Rewrite a PNG; ``name`` is what the target will be called in the end."""
    captured = read_image(source)
    chunks = list(_chunks(source.read_bytes()))
    depths = [data[0] for kind, data in chunks if kind == b"sBIT" and data]
    depth = depths[0] if depths else None
    about = About(source.name, source.name, depth, position=source.name, image=source)
    plane = work.refocus(captured, about)
    if plane is None:
        return
    written = io.BytesIO()
    Image.fromarray(plane).save(written, format="PNG")
    header, *pixels = [c for c in _chunks(written.getvalue()) if c[0] in OF_PIXELS]
    kinds = [kind for kind, _ in chunks]
    middle = kinds.index(b"IDAT")
    mark = (b"tEXt", b"Software\0" + work.software.encode("latin-1", "replace"))
    before = [c for c in chunks[:middle] if c[0] not in OF_PIXELS]
    after = [c for c in chunks[middle:] if c[0] not in OF_PIXELS]
    kept = [header, *before, mark, *pixels[:-1], *after, pixels[-1]]
    target.write_bytes(SIGNATURE + b"".join(_pack(*chunk) for chunk in kept))


def _chunks(content: bytes) -> Iterator[Chunk]:
    at = len(SIGNATURE)
    while at + 8 <= len(content):
        (length,) = struct.unpack(">I", content[at : at + 4])
        yield content[at + 4 : at + 8], content[at + 8 : at + 8 + length]
        at += 12 + length


def _pack(kind: bytes, data: bytes) -> bytes:
    check = zlib.crc32(kind + data)
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", check)
