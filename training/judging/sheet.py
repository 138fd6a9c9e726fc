"""Contact sheets: captured | refocused | in focus | difference, a row for each field."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from refocus.optics.drawing import DARK, WHITE, canvas, contrast, head, to_8_bit, write

PANEL = 400
MARGIN, HEADER, TITLE = 12, 30, 46
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
    size = (width, TITLE + sum(heights) + len(rows) * (HEADER + MARGIN))
    sheet, pen = canvas(size, DARK)
    write(pen, (MARGIN, 12), title, 20, WHITE)
    top = TITLE
    for row, height in zip(rows, heights, strict=True):
        _draw_row(sheet, pen, row, top, height)
        top += HEADER + height + MARGIN
    return sheet


def save_sheet(path: Path, title: str, rows: list[Row]) -> None:
    """Draw a sheet (see :func:`draw_sheet`) into a PNG file."""
    draw_sheet(title, rows).save(path, format="PNG")


def _draw_row(
    sheet: Image.Image, pen: ImageDraw.ImageDraw, row: Row, top: int, height: int
) -> None:
    low, high = contrast(row.in_focus)
    panels = [to_8_bit(p, low, high) for p in (row.captured, row.refocused, row.in_focus)]
    difference = row.refocused.astype(np.float32) - row.in_focus
    panels.append(_signed(difference / max(high - low, 1.0)))
    titles = ("captured", "refocused", "in focus", "refocused - in focus")
    percent = f"blue -{DIFFERENCE:.0%}   red +{DIFFERENCE:.0%}"
    notes = (row.captured_note, row.refocused_note, row.name, percent)
    for i, (pixels, title, note) in enumerate(zip(panels, titles, notes, strict=True)):
        left = MARGIN + i * (PANEL + MARGIN)
        head(pen, (left, top + 5), PANEL, title, note, 15)
        picture = Image.fromarray(pixels).resize((PANEL, height), Image.Resampling.LANCZOS)
        sheet.paste(picture, (left, top + HEADER))


def _signed(difference: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Colour too dark blue and too bright red; no difference is black."""
    strength = np.clip(np.abs(difference) / DIFFERENCE, 0, 1)[..., None]
    too_bright = np.array([255, 90, 60], np.float32)
    too_dark = np.array([70, 140, 255], np.float32)
    colour = np.where(difference[..., None] > 0, too_bright, too_dark)
    return np.asarray(strength * colour + 0.5, dtype=np.uint8)


def _height(row: Row) -> int:
    return max(1, round(int(row.in_focus.shape[0]) * PANEL / int(row.in_focus.shape[1])))
