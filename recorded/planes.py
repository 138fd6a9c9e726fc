"""What every kind of data set comes to: planes of a kind and size that can be refocused."""

import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refocus.configs import RefocusError
from refocus.engine.protocol import UNKNOWN, LightPath

log = logging.getLogger("refocus.process")

Plane = NDArray[Any]
"""``(H, W)``, or rows or a window of one; ``uint8`` or ``uint16``."""
ROWS = 512
"""Of a plane, which go by at a time where it is not refocused, written or read back."""
LARGEST_SIDE = 1 << 20
"""Of a plane, pixels: a small file may ask for far more than any scanner has."""
LARGEST_PIECE = 1 << 29
"""Bytes of what is decoded at once, such as a tile, a strip or a chunk."""


@dataclass(frozen=True)
class Bands:
    """Gives the rows of refocused planes by their numbers in the data set.

    Attributes
    ----------
    rows
        Those of a plane from the top, band by band; zeros where it is left out. It waits for what
        is not refocused yet.
    stays
        Whether a plane is not to be refocused, so that all of it stays as captured.
    """

    rows: Callable[[int], Iterator[Plane]]
    stays: Callable[[int], bool]


@dataclass(frozen=True)
class About:
    """What a file says of a plane.

    Attributes
    ----------
    name
        Which one it is, for messages.
    place
        Which one it is, for the record: an index, or the number of a page.
    bit_depth
        Significant bits of a pixel; None where it is not stated.
    light_path
        What it says of that.
    channel
        Name of its channel; empty where it has none.
    position
        Which place it shows.
    image
        Folder of its image, or its file.
    axes
        Its index along each axis that is named.
    in_stack
        Whether it is one of several along z.
    z_um
        Where it lies in its stack, from the first plane; None where that is not stated.
    """

    name: str
    place: Any = 0
    bit_depth: int | None = None
    light_path: LightPath = UNKNOWN
    channel: str = ""
    position: str = ""
    image: Path = Path()
    axes: Mapping[str, int] = field(default_factory=dict)
    in_stack: bool = False
    z_um: float | None = None


@dataclass(frozen=True)
class RecordedPlane:
    """A plane of a data set, which is read as it is needed.

    Attributes
    ----------
    about
        What is said of it.
    shape, dtype
        ``(H, W)``, and that of its pixels in memory.
    read
        Gives the window of these rows and columns, light being bright.
    """

    about: About
    shape: tuple[int, int]
    dtype: np.dtype[Any]
    read: Callable[[slice, slice], Plane]

    @property
    def bits(self) -> int:
        """Significant bits of a pixel; all that it has where nothing is stated."""
        return self.about.bit_depth or 8 * self.dtype.itemsize

    def bands(self, first: int, last: int) -> Iterator[Plane]:
        """Read these rows, some at a time."""
        for top in range(first, last, ROWS):
            yield self.read(slice(top, min(top + ROWS, last)), slice(0, self.shape[1]))

    def whole(self) -> Plane:
        """Read all of it."""
        return self.read(slice(0, self.shape[0]), slice(0, self.shape[1]))


def check_pixels(shape: tuple[int, ...], dtype: Any, where: str) -> None:
    """Refuse what is no plane of 8 or 16 bits, or too large, by a RefocusError."""
    if len(shape) != 2:
        raise RefocusError(
            f"{where}: has shape {tuple(shape)}, but monochrome planes (H, W) are needed; "
            "save each colour as a channel of its own"
        )
    if np.dtype(dtype).newbyteorder("=") not in (np.uint8, np.uint16):
        raise RefocusError(f"{where}: has pixels of {dtype}, but uint8 or uint16 is needed")
    if not min(shape):
        raise RefocusError(f"{where}: holds no pixels; remove it")
    if max(shape) > LARGEST_SIDE:
        raise RefocusError(
            f"{where}: asks for {shape[1]}×{shape[0]} pixels, and {LARGEST_SIDE} along a side are "
            "the most; cut it into pieces"
        )


def check_piece(shape: tuple[int, ...], dtype: Any, where: str) -> None:
    """Refuse what cannot be decoded in a bounded memory, by a RefocusError."""
    size = int(np.prod(shape, dtype=np.float64)) * np.dtype(dtype).itemsize
    if size > LARGEST_PIECE:
        raise RefocusError(
            f"{where} asks for {size / 1e9:.1f} GB at once, over the {LARGEST_PIECE / 1e9:.1f} "
            "that are read; write it in smaller ones"
        )
