"""A picture of a plate: how far from focus each well was, and what came of its planes."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
from PIL import Image, ImageDraw

from refocus.optics.drawing import (
    GREY,
    INK,
    LINE,
    PAPER,
    Colour,
    canvas,
    shorten,
    text_width,
    write,
)
from refocus.recorded.plate import Plate

COLOURS: Mapping[str, Colour] = {
    "in-focus": (38, 122, 110),
    "refocused": (110, 178, 214),
    "beyond": (232, 148, 60),
    "unfamiliar": (176, 64, 92),
    "blank": (214, 216, 220),
    "unrated": (160, 164, 172),
    "as captured": (236, 238, 242),
    "left out": (28, 32, 38),
}
"""Of what became of a plane; they differ in lightness, too."""

OTHER = {"as_captured": "as captured", "left_out": "left out"}
"""Columns that say why a plane has no verdict, and what it is called here."""

NEAR_TO_FAR: tuple[Colour, ...] = (
    *((246, 248, 224), (180, 220, 190), (84, 168, 180)),
    *((38, 106, 160), (34, 48, 110), (22, 18, 52)),
)
"""From in focus to the farthest well."""

MARGIN, TOP, BETWEEN = 24, 70, 56
LETTERS, FOOT = 26, 64
SIDES = (40, 20)
"""Of a well, pixels, in small plates and in large ones."""
LARGE = 16
"""Columns of a large plate."""


@dataclass
class Well:
    """What became of the planes of a well."""

    distances_um: list[float] = field(default_factory=list)
    verdicts: Counter[str] = field(default_factory=Counter)


def wells_of(lines: Iterable[Mapping[str, str]]) -> dict[tuple[str, str], Well]:
    """Gather the lines of a table of verdicts by row and column."""
    found: dict[tuple[str, str], Well] = {}
    for line in lines:
        well = found.setdefault((line["row"], line["column"]), Well())
        other = next((name for name in OTHER if line[name]), "")
        well.verdicts[OTHER.get(other, line["verdict"])] += 1
        if line["distance_um"]:
            well.distances_um.append(float(line["distance_um"]))
    return found


def draw_heat_map(plate: Plate, lines: Iterable[Mapping[str, str]]) -> Image.Image:
    """Draw a plate: median distance from focus on the left, verdicts on the right.

    Parameters
    ----------
    plate
        Says where wells lie. One that it does not name is an empty outline, one that is missing
        is crossed out.
    lines
        Of the table of verdicts.
    """
    wells = wells_of(lines)
    medians = {
        place: float(np.median(well.distances_um))
        for place, well in wells.items()
        if well.distances_um
    }
    far = _round_up(max(medians.values(), default=0.0))
    side = SIDES[len(plate.columns) > LARGE]
    wide, high = side * len(plate.columns), side * len(plate.rows)
    panel = LETTERS + max(wide, 340)
    size = (2 * MARGIN + 2 * panel + BETWEEN, TOP + LETTERS + high + FOOT + MARGIN)
    picture, pen = canvas(size, PAPER)
    first, second = MARGIN, MARGIN + panel + BETWEEN
    _heads(pen, plate, wells, (first, second), panel)
    for left in (first, second):
        _frame(pen, plate, (left + LETTERS, TOP + LETTERS), side)
    named = set(plate.wells.values())
    for row, letter in enumerate(plate.rows):
        for column, number in enumerate(plate.columns):
            place = (letter, number)
            for left in (first, second):
                box = (left + LETTERS + column * side, TOP + LETTERS + row * side, side - 2)
                if place not in wells:
                    _absent(pen, box, place in named)
                elif left == second:
                    _shares(pen, box, wells[place].verdicts)
                else:
                    _distance(pen, box, medians.get(place), far)
    foot = TOP + LETTERS + high + 18
    _distances(pen, (first + LETTERS, foot), far)
    _legend(pen, (second + LETTERS, foot), panel - LETTERS, wells)
    return picture


def _heads(
    pen: ImageDraw.ImageDraw,
    plate: Plate,
    wells: Mapping[tuple[str, str], Well],
    lefts: tuple[int, int],
    width: int,
) -> None:
    planes = sum(well.verdicts.total() for well in wells.values())
    counts = f"{len(wells)} of {len(plate.wells)} wells, {planes} planes"
    name = f"{plate.name}: " if plate.name else ""
    write(pen, (lefts[0], MARGIN), "Distance from focus", 17, INK)
    write(pen, (lefts[0], MARGIN + 22), "as captured, median of a well, µm", 12, GREY)
    write(pen, (lefts[1], MARGIN), "Verdicts", 17, INK)
    write(pen, (lefts[1], MARGIN + 22), shorten(name + counts, 12, width), 12, GREY)


def _frame(pen: ImageDraw.ImageDraw, plate: Plate, at: tuple[int, int], side: int) -> None:
    """Write the names of rows and columns around the wells."""
    left, top = at
    step = 1 if side >= max(text_width(name, 11) for name in plate.columns) + 6 else 2
    for column, number in enumerate(plate.columns):
        if column % step == 0:
            write(pen, (left + column * side + side / 2 - 1, top - 6), number, 11, GREY, "mb")
    for row, letter in enumerate(plate.rows):
        write(pen, (left - 8, top + row * side + side / 2 - 1), letter, 11, GREY, "rm")


Box = tuple[int, int, int]
"""Left, top and side of a well."""


def _corners(box: Box) -> list[int]:
    left, top, side = box
    return [left, top, left + side - 1, top + side - 1]


def _distance(pen: ImageDraw.ImageDraw, box: Box, um: float | None, far: float) -> None:
    """Colour a well by its distance, and write it where there is room."""
    colour = LINE if um is None else _scale(um / far)
    pen.rectangle(_corners(box), fill=colour)
    left, top, side = box
    if um is not None and side > SIDES[1]:
        ink = INK if sum(colour) > 3 * 128 else PAPER
        write(pen, (left + side / 2, top + side / 2), f"{um:.0f}", 12, ink, "mm")


def _absent(pen: ImageDraw.ImageDraw, box: Box, missing: bool) -> None:
    left, top, right, bottom = _corners(box)
    pen.rectangle([left, top, right, bottom], outline=LINE)
    if missing:
        pen.line([left + 3, top + 3, right - 3, bottom - 3], fill=GREY)
        pen.line([left + 3, bottom - 3, right - 3, top + 3], fill=GREY)


def _shares(pen: ImageDraw.ImageDraw, box: Box, verdicts: Counter[str]) -> None:
    """Fill a well from below, a layer for each verdict."""
    left, top, side = box
    below, total = 0, verdicts.total()
    for verdict, colour in COLOURS.items():
        above = below + verdicts[verdict]
        low, high = (top + side - round(side * n / total) for n in (below, above))
        if high < low:
            pen.rectangle([left, high, left + side - 1, low - 1], fill=colour)
        below = above


def _distances(pen: ImageDraw.ImageDraw, at: tuple[int, int], far: float) -> None:
    left, top = at
    for along in range(240):
        pen.line([left + along, top, left + along, top + 11], fill=_scale(along / 239))
    for part, anchor in ((0.0, "la"), (0.5, "ma"), (1.0, "ra")):
        write(pen, (left + part * 240, top + 16), f"{part * far:g}", 11, GREY, anchor)
    pen.rectangle([left + 264, top, left + 275, top + 11], fill=LINE)
    write(pen, (left + 281, top), "not judged", 11, GREY)


def _legend(
    pen: ImageDraw.ImageDraw,
    at: tuple[int, int],
    width: int,
    wells: Mapping[tuple[str, str], Well],
) -> None:
    """Name the colours of the verdicts that occur, and count them."""
    counts: Counter[str] = sum((well.verdicts for well in wells.values()), Counter())
    left, top = at
    for verdict, colour in COLOURS.items():
        if not counts[verdict]:
            continue
        text = f"{verdict} {counts[verdict]}"
        if left + 34 + text_width(text, 12) > at[0] + width:
            left, top = at[0], top + 20
        pen.rectangle([left, top + 1, left + 11, top + 12], fill=colour)
        write(pen, (left + 17, top), text, 12, INK)
        left += 34 + round(text_width(text, 12))


def _scale(part: float) -> Colour:
    """Give the colour of a distance, as a part of the farthest."""
    place = min(max(part, 0.0), 1.0) * (len(NEAR_TO_FAR) - 1)
    before = min(int(place), len(NEAR_TO_FAR) - 2)
    pair = zip(NEAR_TO_FAR[before], NEAR_TO_FAR[before + 1], strict=True)
    red, green, blue = (round(a + (b - a) * (place - before)) for a, b in pair)
    return red, green, blue


def _round_up(um: float) -> float:
    """Give the next round number, for the end of the scale."""
    power = 10.0 ** np.floor(np.log10(max(um, 1.0)))
    return float(next(step * power for step in (1, 2, 3, 4, 5, 6, 8, 10) if step * power >= um))
