"""What travels between the server and the page: JSON, and frames as bytes.

A frame is one binary message, little-endian::

    uint32 length of the header | header, UTF-8 JSON | spaces up to a multiple of 8 | refocused
    pixels [| captured pixels]

The header is that of ``refocus.frame``, and ``serial``, ``place``, ``lost``, ``has_raw`` and
``captured_ms``: when it was captured, on the server's monotonic clock.
"""

import json
import struct
from dataclasses import dataclass
from typing import Any

import numpy as np

from refocus.engine.protocol import Frame
from refocus.view.places import Shown, Wanted


def encode_frame(shown: Shown) -> bytes:
    """Give the message that carries a frame; copies its pixels once."""
    frame = shown.frame
    header: dict[str, Any] = frame.header.model_dump(mode="json", by_alias=True)
    header |= {
        "serial": shown.serial,
        "place": shown.place._asdict(),
        "lost": frame.lost,
        "has_raw": frame.raw is not None,
        "captured_ms": round(shown.captured_s * 1e3, 3),
    }
    text = json.dumps(header).encode()
    text += b" " * (-(len(text) + 4) % 8)
    images = [frame.pixels] if frame.raw is None else [frame.pixels, frame.raw]
    return b"".join([struct.pack("<I", len(text)), text, *map(_little_endian, images)])


def _little_endian(pixels: Frame) -> memoryview:
    return np.ascontiguousarray(pixels, pixels.dtype.newbyteorder("<")).data.cast("B")


@dataclass(frozen=True)
class Acknowledged:
    """The page has taken the frame, and can take another."""

    serial: int


@dataclass(frozen=True)
class Pinged:
    """The page asks for the time, to know the difference of the clocks."""

    sent: float


@dataclass(frozen=True)
class Selected:
    """What the page wants to see.

    Attributes
    ----------
    wanted
        The places that it follows.
    each
        Whether it wants every channel of them, in turn, and not just the newest frame.
    """

    wanted: Wanted
    each: bool = False


@dataclass(frozen=True)
class Recalled:
    """The page wants an earlier frame, and no other; None goes on with what comes."""

    serial: int | None


def decode(text: str) -> Acknowledged | Pinged | Selected | Recalled | None:
    """Read what the page sent; None for what is not understood, which is passed over."""
    try:
        content = json.loads(text)
        kind = content["type"]
        if kind == "ack":
            return Acknowledged(int(content["serial"]))
        if kind == "ping":
            return Pinged(float(content["sent"]))
        if kind == "select":
            p, c, z = (content.get(axis) for axis in "pcz")
            wanted = Wanted(
                None if p is None else int(p),
                None if c is None else str(c),
                None if z is None else int(z),
            )
            return Selected(wanted, content.get("each") is True)
        if kind == "recall":
            return Recalled(None if content["serial"] is None else int(content["serial"]))
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
        pass
    return None
