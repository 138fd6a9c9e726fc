"""What our pictures share: contrast, labels, tiles and the two sets of colours.

Drawn with Pillow and its own font: a microscope PC may have no other.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

Colour = tuple[int, int, int]

DARK, WHITE, SILVER = (16, 18, 22), (240, 242, 245), (150, 156, 166)
"""Pictures of frames: the ground, what is written on it, and what is written beside."""

PAPER, INK, GREY, LINE = (255, 255, 255), (28, 32, 38), (110, 118, 128), (222, 226, 232)
"""Charts: the ground, what is written on it, what is written beside, and lines of a grid."""

RED, BLUE = (214, 86, 32), (94, 129, 172)
"""Charts: what was found, and what it is held against."""

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


def contrast(pixels: NDArray[Any]) -> tuple[float, float]:
    """Give the counts that are shown black and white: the 0.1 and 99.9 percentiles."""
    low, high = np.percentile(pixels, (0.1, 99.9))
    return float(low), float(high)


def to_8_bit(pixels: NDArray[Any], low: float, high: float) -> NDArray[np.uint8]:
    """Scale pixels for the screen: ``low`` and below are black, ``high`` and above are white."""
    span = max(high - low, 1e-9)
    unit = np.clip((pixels.astype(np.float32) - low) / span, 0.0, 1.0)
    return np.asarray(unit * 255.0 + 0.5, dtype=np.uint8)


def canvas(size: tuple[int, int], ground: Colour) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    """Give an empty picture, ``(width, height)`` pixels, and a pen for it."""
    picture = Image.new("RGB", size, ground)
    return picture, ImageDraw.Draw(picture)


def font(size: int) -> Font:
    """Give Pillow's own font."""
    return ImageFont.load_default(size=size)


def text_width(text: str, size: int) -> float:
    """Measure how wide a line will be, pixels."""
    return float(font(size).getlength(text.replace("µ", "u")))


def write(  # noqa: PLR0917
    pen: ImageDraw.ImageDraw,
    at: tuple[float, float],
    text: str,
    size: int,
    colour: Colour,
    anchor: str = "la",
) -> None:
    """Write a line.

    Parameters
    ----------
    at
        Where its anchor lies, ``(x, y)``.
    anchor
        In Pillow's terms: ``"la"`` is the left end and the top, ``"ma"`` the middle and the top,
        ``"rm"`` the right end and half the height.
    """
    letters = font(size)
    plain = text.replace("µ", "u")
    x, y = (round(along) for along in at)
    pen.text((x, y), plain, font=letters, fill=colour, anchor=anchor)
    if "µ" not in text:
        return
    # Pillow's own font lacks µ, so it is drawn as a u with a longer stem
    left, *_ = pen.textbbox((x, y), plain, font=letters, anchor=anchor)
    base = pen.textbbox((x, y), "u", font=letters, anchor=anchor)[3]
    start = x if anchor.startswith("l") else left
    stem = max(1, round(size / 11))
    for place, letter in enumerate(text):
        if letter == "µ":
            edge = round(start + text_width(text[:place], size)) + round(size * 0.08)
            foot = base + round(size * 0.24)
            pen.rectangle([edge, base - size // 5, edge + stem - 1, foot], fill=colour)


def shorten(text: str, size: int, width: float) -> str:
    """Cut a line that is wider than this, and end it with dots."""
    if text_width(text, size) <= width:
        return text
    while text and text_width(text + "...", size) > width:
        text = text[:-1]
    return text + "..."


def head(  # noqa: PLR0917
    pen: ImageDraw.ImageDraw,
    at: tuple[int, int],
    width: int,
    title: str,
    note: str,
    size: int,
) -> None:
    """Write over a tile of this width: what it is on the left, figures of it on the right."""
    left, top = at
    smaller = round(size * 0.8 + 0.5)
    write(pen, at, title, size, WHITE)
    shown = shorten(note, smaller, width - text_width(title, size) - 16)
    beside = (left + width - text_width(shown, smaller), top + round(size * 0.2))
    write(pen, beside, shown, smaller, SILVER)


def tiles(rows: Sequence[Sequence[NDArray[Any]]]) -> NDArray[np.uint8]:
    """Lay frames out in a grid, each row at the contrast of its last frame.

    Parameters
    ----------
    rows
        Frames ``(H, W)``, all of one shape.

    Returns
    -------
    ndarray
        ``(rows · H, columns · W)``.
    """
    shown = []
    for row in rows:
        low, high = contrast(row[-1])
        shown.append(np.hstack([to_8_bit(frame, low, high) for frame in row]))
    return np.vstack(shown)
