"""Contact sheets: captured | refocused | in focus | difference, a row for each field."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

PANEL = 400
MARGIN, HEADER, TITLE = 12, 30, 46
BACKGROUND, WHITE, GREY = (16, 18, 22), (240, 242, 245), (150, 156, 166)
DIFFERENCE = 0.25
"""Fraction of the in-focus range at which the difference is fully coloured."""


@dataclass(frozen=True, eq=False)
class Row:
    """One field: its name, three frames ``(H, W)``, and what to write above each."""

    name: str
    captured: NDArray[Any]
    refocused: NDArray[Any]
    in_focus: NDArray[Any]
    captured_note: str = ""
    refocused_note: str = ""


def draw_sheet(title: str, rows: list[Row]) -> Image.Image:
    """Draw fields below each other, each at the contrast of its in-focus frame."""
    heights = [_height(row) for row in rows]
    width = MARGIN + 4 * (PANEL + MARGIN)
    canvas = Image.new(
        "RGB", (width, TITLE + sum(heights) + len(rows) * (HEADER + MARGIN)), BACKGROUND
    )
    draw = ImageDraw.Draw(canvas)
    _write(draw, MARGIN, 12, title, 20, WHITE)
    top = TITLE
    for row, height in zip(rows, heights, strict=True):
        _draw_row(canvas, draw, row, top, height)
        top += HEADER + height + MARGIN
    return canvas


def save_sheet(path: Path, title: str, rows: list[Row]) -> None:
    """Draw a sheet (see :func:`draw_sheet`) into a PNG file."""
    draw_sheet(title, rows).save(path, format="PNG", optimize=True)


def _draw_row(
    canvas: Image.Image, draw: ImageDraw.ImageDraw, row: Row, top: int, height: int
) -> None:
    low, high = np.percentile(row.in_focus, (0.1, 99.9))
    span = max(float(high - low), 1.0)
    panels = [_grey(p, float(low), span) for p in (row.captured, row.refocused, row.in_focus)]
    panels.append(_signed((row.refocused.astype(np.float32) - row.in_focus) / span))
    titles = ("captured", "refocused", "in focus", "refocused - in focus")
    percent = f"blue -{DIFFERENCE:.0%}   red +{DIFFERENCE:.0%}"
    notes = (row.captured_note, row.refocused_note, row.name, percent)
    for i, (pixels, title, whole) in enumerate(zip(panels, titles, notes, strict=True)):
        left = MARGIN + i * (PANEL + MARGIN)
        _write(draw, left, top + 5, title, 15, WHITE)
        note = _shorten(whole, PANEL - _font(15).getlength(title) - 16)
        _write(draw, left + PANEL - round(_font(13).getlength(note)), top + 7, note, 13, GREY)
        picture = Image.fromarray(pixels).resize((PANEL, height), Image.Resampling.LANCZOS)
        canvas.paste(picture, (left, top + HEADER))


def _grey(pixels: NDArray[Any], low: float, span: float) -> NDArray[np.uint8]:
    unit = np.clip((pixels.astype(np.float32) - low) / span, 0, 1)
    return np.repeat(np.asarray(unit * 255 + 0.5, dtype=np.uint8)[..., None], 3, axis=2)


def _signed(difference: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Colour too dark blue and too bright red; no difference is black."""
    strength = np.clip(np.abs(difference) / DIFFERENCE, 0, 1)[..., None]
    too_bright = np.array([255, 90, 60], np.float32)
    too_dark = np.array([70, 140, 255], np.float32)
    colour = np.where(difference[..., None] > 0, too_bright, too_dark)
    return np.asarray(strength * colour + 0.5, dtype=np.uint8)


def _height(row: Row) -> int:
    return max(1, round(int(row.in_focus.shape[0]) * PANEL / int(row.in_focus.shape[1])))


def _shorten(text: str, width: float) -> str:
    if _font(13).getlength(text) <= width:
        return text
    while text and _font(13).getlength(text + "...") > width:
        text = text[:-1]
    return text + "..."


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size=size)


def _write(  # noqa: PLR0917
    draw: ImageDraw.ImageDraw, x: int, y: int, text: str, size: int, colour: tuple[int, int, int]
) -> None:
    # Pillow's own font lacks µ
    draw.text((x, y), text.replace("µ", "u"), font=_font(size), fill=colour)
