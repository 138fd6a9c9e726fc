"""The picture beside a report: captured | refocused | reference, and a detail of each.

All panels share one contrast, taken from the last of them, so that what looks brighter is
brighter. Drawn with Pillow and its own font: a microscope PC may have no other.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

PANEL = 480  # width of a panel, pixels of the picture
MARGIN = 16
HEADER = 40
FOOTER = 34
BACKGROUND, WHITE, GREY, ACCENT = (16, 18, 22), (240, 242, 245), (150, 156, 166), (255, 196, 60)

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


@dataclass(frozen=True, eq=False)
class Panel:
    """One image of the picture.

    Attributes
    ----------
    pixels
        ``(H, W)``, ``uint8`` or ``uint16``; the same shape in every panel.
    title
        What it is, written above it on the left.
    note
        Figures, written above it on the right.
    """

    pixels: NDArray[Any]
    title: str
    note: str = ""


def draw_picture(
    panels: Sequence[Panel], *, pixel_size_um: float = 0.0, caption: str = ""
) -> Image.Image:
    """Draw panels side by side at one contrast, with a scale bar, and a detail under each.

    Parameters
    ----------
    panels
        Left to right; the contrast is the last one's 0.1 to 99.9 percentiles.
    pixel_size_um
        Size of a pixel at the specimen, µm; 0 leaves the scale bar out.
    caption
        A line under the panels.

    Returns
    -------
    Image
        RGB.
    """
    panels = [replace(panel, pixels=_crop_strip(panel.pixels)) for panel in panels]
    shown = panels[-1].pixels
    low, high = np.percentile(shown, (0.1, 99.9))
    box = find_detail(shown)
    scale = PANEL / shown.shape[1]
    row = max(1, round(shown.shape[0] * scale))
    rows = HEADER + row + MARGIN + PANEL
    size = (MARGIN + len(panels) * (PANEL + MARGIN), rows + (FOOTER if caption else MARGIN))
    canvas = Image.new("RGB", size, BACKGROUND)
    draw = ImageDraw.Draw(canvas)
    for number, panel in enumerate(panels):
        left = MARGIN + number * (PANEL + MARGIN)
        _write(draw, (left, 9), panel.title, 20, WHITE)
        note_left = left + PANEL - _width(panel.note, 15)
        _write(draw, (note_left, 13), panel.note, 15, GREY)
        grey = Image.fromarray(_to_8_bit(panel.pixels, low, high))
        canvas.paste(grey.resize((PANEL, row), Image.Resampling.LANCZOS), (left, HEADER))
        top = HEADER + row + MARGIN
        zoomed = grey.resize((PANEL, PANEL), Image.Resampling.BICUBIC, box=box)
        canvas.paste(zoomed, (left, top))
        corners = [left + box[0] * scale, HEADER + box[1] * scale]
        corners += [left + box[2] * scale - 1, HEADER + box[3] * scale - 1]
        draw.rectangle(corners, outline=ACCENT, width=2)
        draw.rectangle([left, top, left + PANEL - 1, top + PANEL - 1], outline=ACCENT, width=2)
        if number == 0 and pixel_size_um > 0:
            magnified = PANEL / (box[2] - box[0])
            _scale_bar(draw, left, HEADER + row, scale / pixel_size_um)
            _scale_bar(draw, left, top + PANEL, magnified / pixel_size_um)
    if caption:
        _write(draw, (MARGIN, rows + 9), caption, 15, GREY)
    return canvas


def save_picture(
    path: Path, panels: Sequence[Panel], *, pixel_size_um: float = 0.0, caption: str = ""
) -> None:
    """Draw a picture (see :func:`draw_picture`) into a PNG file."""
    picture = draw_picture(panels, pixel_size_um=pixel_size_um, caption=caption)
    picture.save(path, format="PNG", optimize=True)


def find_detail(pixels: NDArray[Any]) -> tuple[int, int, int, int]:
    """Choose the square with the most structure.

    Parameters
    ----------
    pixels
        ``(H, W)``.

    Returns
    -------
    tuple of int
        ``(left, top, right, bottom)``, a quarter of the shorter side wide, inside the image.
    """
    height, width = pixels.shape
    side = max(min(height, width) // 4, min(height, width, 32))
    image = ndimage.gaussian_filter(pixels.astype(np.float32), 1.0)
    energy = ndimage.sobel(image, axis=0) ** 2 + ndimage.sobel(image, axis=1) ** 2
    # a few hot edges should not win over a square full of structure
    energy = np.minimum(energy, np.percentile(energy, 98))
    total = ndimage.uniform_filter(energy, side, mode="constant")
    half = side // 2
    inside = total[half : height - side + half + 1, half : width - side + half + 1]
    top, left = np.unravel_index(int(np.argmax(inside)), inside.shape)
    return int(left), int(top), int(left) + side, int(top) + side


def nice_length(longest_um: float) -> float:
    """Give the longest of 1, 2, 5, 10, 20, 50... µm that is no longer than this."""
    power = 10.0 ** math.floor(math.log10(longest_um))
    return max(step * power for step in (1.0, 2.0, 5.0) if step * power <= longest_um * 1.0001)


def _crop_strip(pixels: NDArray[Any]) -> NDArray[Any]:
    """Cut the middle out of an image more than twice as long as wide: a strip shows nothing."""
    height, width = pixels.shape
    tall, wide = min(height, 2 * width), min(width, 2 * height)
    top, left = (height - tall) // 2, (width - wide) // 2
    return pixels[top : top + tall, left : left + wide]


def _to_8_bit(pixels: NDArray[Any], low: float, high: float) -> NDArray[np.uint8]:
    span = max(high - low, 1e-9)
    unit = np.clip((pixels.astype(np.float32) - low) / span, 0.0, 1.0)
    return np.asarray(unit * 255.0 + 0.5, dtype=np.uint8)


def _scale_bar(draw: ImageDraw.ImageDraw, left: int, bottom: int, pixels_per_um: float) -> None:
    """Draw a bar of a round length, up to a quarter of the panel, in its lower left corner."""
    length_um = nice_length(PANEL / 4 / pixels_per_um)
    label = f"{length_um:g} µm"
    length = length_um * pixels_per_um
    x, y = left + 14, bottom - 18
    wide = max(length, _width(label, 15))
    # on a plate of its own, so that it reads on any image
    draw.rectangle([x - 7, y - 27, x + wide + 7, y + 11], fill=BACKGROUND)
    draw.rectangle([x, y, x + length, y + 4], fill=WHITE)
    centre = max(0.0, (length - _width(label, 15)) / 2)
    _write(draw, (x + centre, y - 22), label, 15, WHITE)


def _font(size: int) -> Font:
    return ImageFont.load_default(size=size)


def _width(text: str, size: int) -> float:
    return float(_font(size).getlength(text.replace("µ", "u")))


def _write(
    draw: ImageDraw.ImageDraw, at: tuple[float, float], text: str, size: int, colour: Any
) -> None:
    """Write a line. Pillow's own font lacks µ, so it is drawn as a u with a longer stem."""
    font = _font(size)
    x, y = (round(along) for along in at)
    draw.text((x, y), text.replace("µ", "u"), font=font, fill=colour)
    for place, letter in enumerate(text):
        if letter == "µ":
            start = round(x + _width(text[:place], size))
            bottom = font.getbbox("u")[3]
            stem = max(1, round(size / 11))
            edge, base = start + round(size * 0.08), y + round(bottom)
            foot = base + round(size * 0.24)
            draw.rectangle([edge, base - size // 5, edge + stem - 1, foot], fill=colour)
