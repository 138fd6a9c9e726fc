"""Two curves of a trust report in one picture: risk against coverage, and calibration."""

from collections.abc import Sequence
from pathlib import Path

from PIL import ImageDraw

from refocus.optics.drawing import BLUE, GREY, INK, LINE, PAPER, RED, canvas, write

SIDE, MARGIN, HEAD, AXIS = 380, 30, 64, 56

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
    picture, pen = canvas((width, HEAD + SIDE + AXIS + MARGIN), PAPER)
    top = max([r for _, r in risk], default=0.0) * 1.15 or 1.0
    left = MARGIN + AXIS
    _panel(
        pen, left, "Risk against coverage", "frames that the network makes worse, % of those kept"
    )
    _axes(pen, left, top, "frames kept, those trusted most first, %")
    _line(pen, left, [(x, y / top) for x, y in risk], RED)
    left += SIDE + MARGIN + AXIS
    _panel(pen, left, "Calibration", "pixels within the interval, %; blue: as it should be")
    _axes(pen, left, 1.0, "stated probability of the interval, %")
    _line(pen, left, [(0.0, 0.0), (1.0, 1.0)], BLUE)
    _line(pen, left, [*calibration], RED, dots=True)
    picture.save(path, format="PNG")


def _panel(pen: ImageDraw.ImageDraw, left: int, title: str, subtitle: str) -> None:
    write(pen, (left, 12), title, 18, INK)
    write(pen, (left, 37), subtitle, 13, GREY)


def _axes(pen: ImageDraw.ImageDraw, left: int, top: float, below: str) -> None:
    """Draw a grid in quarters; both axes are fractions, written in per cent."""
    for quarter in range(5):
        share = quarter / 4
        x, y = left + round(share * SIDE), HEAD + round((1 - share) * SIDE)
        pen.line([(x, HEAD), (x, HEAD + SIDE)], fill=LINE)
        pen.line([(left, y), (left + SIDE, y)], fill=LINE)
        write(pen, (x, HEAD + SIDE + 6), f"{100 * share:.0f}", 13, GREY, anchor="ma")
        label = f"{100 * share * top:.3g}"
        write(pen, (left - 8, y), label, 13, GREY, anchor="rm")
    write(pen, (left + SIDE // 2, HEAD + SIDE + 28), below, 13, GREY, anchor="ma")


def _line(
    pen: ImageDraw.ImageDraw,
    left: int,
    points: Curve,
    colour: tuple[int, int, int],
    dots: bool = False,
) -> None:
    places = [(left + x * SIDE, HEAD + (1 - y) * SIDE) for x, y in points]
    pen.line(places, fill=colour, width=3, joint="curve")
    for x, y in places if dots else ():
        pen.ellipse([x - 4, y - 4, x + 4, y + 4], fill=colour)
