"""Two curves of a trust report in one picture: risk against coverage, and calibration."""

from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

SIDE, MARGIN, HEAD, AXIS = 380, 30, 64, 56
BACKGROUND, INK, GREY, LINE = (255, 255, 255), (28, 32, 38), (110, 118, 128), (222, 226, 232)
FOUND, WANTED = (214, 86, 32), (94, 129, 172)

Curve = Sequence[tuple[float, float]]


def save_curves(path: Path, risk: Curve, calibration: Curve) -> None:
    """Draw two panels into a PNG file.

    Parameters
    ----------
    path
        Of the picture.
    risk
        ``(coverage, risk)``: fraction of the frames kept, most trusted first, and the fraction of
        them that the network makes worse.
    calibration
        ``(stated, found)``: an interval's probability, and the fraction of pixels in it.
    """
    width = 2 * (AXIS + SIDE + MARGIN) + MARGIN
    canvas = Image.new("RGB", (width, HEAD + SIDE + AXIS + MARGIN), BACKGROUND)
    draw = ImageDraw.Draw(canvas)
    top = max([r for _, r in risk], default=0.0) * 1.15 or 1.0
    left = MARGIN + AXIS
    _panel(
        draw, left, "Risk against coverage", "frames that the network makes worse, % of those kept"
    )
    _axes(draw, left, top, "frames kept, those trusted most first, %")
    _line(draw, left, [(x, y / top) for x, y in risk], FOUND)
    left += SIDE + MARGIN + AXIS
    _panel(draw, left, "Calibration", "pixels within the interval, %; blue: as it should be")
    _axes(draw, left, 1.0, "stated probability of the interval, %")
    _line(draw, left, [(0.0, 0.0), (1.0, 1.0)], WANTED)
    _line(draw, left, [*calibration], FOUND, dots=True)
    canvas.save(path, format="PNG", optimize=True)


def _panel(draw: ImageDraw.ImageDraw, left: int, title: str, subtitle: str) -> None:
    draw.text((left, 12), title, font=_font(18), fill=INK)
    draw.text((left, 37), subtitle, font=_font(13), fill=GREY)


def _axes(draw: ImageDraw.ImageDraw, left: int, top: float, below: str) -> None:
    """Draw a grid in quarters; both axes are fractions, written in per cent."""
    for quarter in range(5):
        share = quarter / 4
        x, y = left + round(share * SIDE), HEAD + round((1 - share) * SIDE)
        draw.line([(x, HEAD), (x, HEAD + SIDE)], fill=LINE)
        draw.line([(left, y), (left + SIDE, y)], fill=LINE)
        draw.text(
            (x, HEAD + SIDE + 6), f"{100 * share:.0f}", font=_font(13), fill=GREY, anchor="ma"
        )
        label = f"{100 * share * top:.3g}"
        draw.text((left - 8, y), label, font=_font(13), fill=GREY, anchor="rm")
    draw.text((left + SIDE // 2, HEAD + SIDE + 28), below, font=_font(13), fill=GREY, anchor="ma")


def _line(
    draw: ImageDraw.ImageDraw,
    left: int,
    points: Curve,
    colour: tuple[int, int, int],
    dots: bool = False,
) -> None:
    places = [(left + x * SIDE, HEAD + (1 - y) * SIDE) for x, y in points]
    draw.line(places, fill=colour, width=3, joint="curve")
    for x, y in places if dots else ():
        draw.ellipse([x - 4, y - 4, x + 4, y + 4], fill=colour)


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size=size)
