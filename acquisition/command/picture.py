"""The picture beside a report: captured | refocused | reference, and a detail of each.

All panels share one contrast, taken from the last of them, so that what looks brighter is
brighter.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy import ndimage

from refocus.acquisition.command.report import FrameQuality, Witness
from refocus.acquisition.pipeline.frame import FrameResult
from refocus.optics.drawing import (
    DARK,
    SILVER,
    WHITE,
    canvas,
    contrast,
    head,
    text_width,
    to_8_bit,
    write,
)

PANEL = 480  # width of a panel, pixels of the picture
MARGIN = 16
HEADER = 40
FOOTER = 34
ACCENT = (255, 196, 60)


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
    low, high = contrast(shown)
    box = find_detail(shown)
    scale = PANEL / shown.shape[1]
    row = max(1, round(shown.shape[0] * scale))
    rows = HEADER + row + MARGIN + PANEL
    size = (MARGIN + len(panels) * (PANEL + MARGIN), rows + (FOOTER if caption else MARGIN))
    picture, pen = canvas(size, DARK)
    for number, panel in enumerate(panels):
        left = MARGIN + number * (PANEL + MARGIN)
        head(pen, (left, 9), PANEL, panel.title, panel.note, 20)
        grey = Image.fromarray(to_8_bit(panel.pixels, low, high))
        picture.paste(grey.resize((PANEL, row), Image.Resampling.LANCZOS), (left, HEADER))
        top = HEADER + row + MARGIN
        zoomed = grey.resize((PANEL, PANEL), Image.Resampling.BICUBIC, box=box)
        picture.paste(zoomed, (left, top))
        corners = [left + box[0] * scale, HEADER + box[1] * scale]
        corners += [left + box[2] * scale - 1, HEADER + box[3] * scale - 1]
        pen.rectangle(corners, outline=ACCENT, width=2)
        pen.rectangle([left, top, left + PANEL - 1, top + PANEL - 1], outline=ACCENT, width=2)
        if number == 0 and pixel_size_um > 0:
            magnified = PANEL / (box[2] - box[0])
            _scale_bar(pen, left, HEADER + row, scale / pixel_size_um)
            _scale_bar(pen, left, top + PANEL, magnified / pixel_size_um)
    if caption:
        write(pen, (MARGIN, rows + 9), caption, 15, SILVER)
    return picture


def save_picture(
    path: Path, panels: Sequence[Panel], *, pixel_size_um: float = 0.0, caption: str = ""
) -> None:
    """Draw a picture (see :func:`draw_picture`) into a PNG file."""
    picture = draw_picture(panels, pixel_size_um=pixel_size_um, caption=caption)
    picture.save(path, format="PNG")


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


def _scale_bar(pen: ImageDraw.ImageDraw, left: int, bottom: int, pixels_per_um: float) -> None:
    """Draw a bar of a round length, up to a quarter of the panel, in its lower left corner."""
    length_um = nice_length(PANEL / 4 / pixels_per_um)
    label = f"{length_um:g} µm"
    length = length_um * pixels_per_um
    x, y = left + 14, bottom - 18
    wide = max(length, text_width(label, 15))
    # on a plate of its own, so that it reads on any image
    pen.rectangle([x - 7, y - 27, x + wide + 7, y + 11], fill=DARK)
    pen.rectangle([x, y, x + length, y + 4], fill=WHITE)
    centre = max(0.0, (length - text_width(label, 15)) / 2)
    write(pen, (x + centre, y - 22), label, 15, WHITE)


def picture_run(
    path: Path, results: list[FrameResult], witness: Witness, judged: Mapping[int, FrameQuality]
) -> bool:
    """Draw captured | refocused | reference of one typical frame.

    Typical is the frame whose PSNR gained the median amount, or the middle one of the run where
    no truth is known; then there is no reference either.

    Returns
    -------
    bool
        False where there was no frame to draw.
    """
    refocused = [result for result in results if result.refocused]
    if not refocused:
        return False
    gains = {
        result.captured.frame: judged[result.captured.frame].psnr_after
        - judged[result.captured.frame].psnr_before
        for result in refocused
        if result.captured.frame in judged
    }
    if gains:
        typical = sorted(gains, key=lambda frame: gains[frame])[len(gains) // 2]
        chosen = next(r for r in refocused if r.captured.frame == typical)
    else:
        chosen = refocused[len(refocused) // 2]
    captured = chosen.captured
    panels = [Panel(captured.pixels, "captured"), Panel(chosen.pixels, _published(chosen))]
    truth, quality = witness(captured.frame), judged.get(captured.frame)
    if quality and truth and truth.in_focus is not None:
        panels = [
            Panel(captured.pixels, "captured", _note(quality.psnr_before, quality.ssim_before)),
            Panel(chosen.pixels, _published(chosen), _note(quality.psnr_after, quality.ssim_after)),
            Panel(truth.in_focus, "reference", "in focus"),
        ]
    facts = [captured.source or f"frame {captured.frame}"]
    if truth and truth.z_um is not None:
        facts.append(f"{abs(truth.z_um):.1f} µm from focus")
    verdict = chosen.judgement
    if verdict and verdict.distance_um is not None:
        told = f"{verdict.distance_um:.1f} ± {verdict.sigma_um:.1f} µm"
        facts.append(f"judged {verdict.verdict}, {told}")
    facts += [f"{chosen.engine_ms:.0f} ms in the engine", "one contrast for all"]
    path.parent.mkdir(parents=True, exist_ok=True)
    caption = " · ".join(facts)
    save_picture(path, panels, pixel_size_um=captured.pixel_size_um, caption=caption)
    return True


def _published(result: FrameResult) -> str:
    """Name what is shown: refocused, or not, and why."""
    judged = result.judgement
    if judged is None or judged.verdict in ("refocused", "unrated"):
        return "refocused"
    return (
        f"{judged.verdict}: as captured"
        if result.pixels is result.captured.pixels
        else (f"refocused, though {judged.verdict}")
    )


def _note(psnr_db: float, similarity: float) -> str:
    return f"PSNR {psnr_db:.1f} dB   SSIM {similarity:.2f}"
