"""The picture of a plate shows what its table says, where it says it."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from refocus.bench.plates import write_plate
from refocus.engine.fake import FakeEngine
from refocus.engine.trust.judgement import UNRATED
from refocus.recorded.heat_map import (
    COLOURS,
    LETTERS,
    MARGIN,
    NEAR_TO_FAR,
    SIDES,
    TOP,
    draw_heat_map,
)
from refocus.recorded.plate import Plate
from refocus.recorded.process import process

WELLS = [(row, column) for row in "ABCDEFGH" for column in map(str, range(1, 13))]


@pytest.fixture
def plate() -> Plate:
    """Give a plate of 96 wells whose last row is not used."""
    named = {Path(row, column): (row, column) for row, column in WELLS if row != "H"}
    return Plate("", tuple("ABCDEFGH"), tuple(map(str, range(1, 13))), named, {})


def line(row: str, column: str, **said: str) -> dict[str, str]:
    empty = dict.fromkeys(("verdict", "distance_um", "as_captured", "left_out"), "")
    return {"row": row, "column": column, **empty, **said}


def corner(picture: Any, row: str, column: str, down: int = 3) -> tuple[int, ...]:
    """Give the colour of a well on the left of the picture, beside what is written on it."""
    left = MARGIN + LETTERS + (int(column) - 1) * SIDES[0] + 3
    found: tuple[int, ...] = picture.getpixel(
        (left, TOP + LETTERS + (ord(row) - ord("A")) * SIDES[0] + down)
    )
    return found


def test_a_well_has_the_colour_of_its_median_distance(plate: Plate) -> None:
    lines = [line("A", "1", verdict="refocused", distance_um=um) for um in ("0", "10", "10")]
    lines.append(line("B", "2", verdict="in-focus", distance_um="0"))
    lines.append(line("C", "3", verdict="blank"))
    picture = draw_heat_map(plate, lines)
    colours = [corner(picture, row, column) for row, column in ("A1", "B2", "C3")]
    assert colours[:2] == [NEAR_TO_FAR[-1], NEAR_TO_FAR[0]]
    assert colours[2] not in NEAR_TO_FAR


def test_a_well_shows_the_shares_of_its_verdicts(plate: Plate) -> None:
    lines = [line("A", "1", verdict="beyond")] * 2 + [line("A", "1", left_out="why")] * 2
    picture = np.asarray(draw_heat_map(plate, lines))
    for what in ("beyond", "left out"):
        wells = (picture[TOP : -MARGIN * 3] == COLOURS[what]).all(-1).sum()
        # half of one, and of the word that is written in the second one's colour
        assert wells >= (SIDES[0] - 2) ** 2 // 2
    assert not (picture == COLOURS["unfamiliar"]).all(-1).any()


def test_wells_that_are_missing_are_crossed_out_and_unused_ones_are_not(plate: Plate) -> None:
    picture = draw_heat_map(plate, [line("A", "1", verdict="unrated")])
    crossed, unused = (corner(picture, row, "1") for row in "BH")
    assert crossed != unused


def test_a_large_plate_fits_on_a_screen() -> None:
    columns = tuple(map(str, range(1, 25)))
    plate = Plate("p", tuple("ABCDEFGHIJKLMNOP"), columns, {}, {})
    picture = draw_heat_map(plate, [line("P", "24", verdict="refocused", distance_um="3")])
    assert picture.width < 1280
    assert picture.height < 720


def test_a_picture_lies_beside_a_plate_and_not_beside_a_single_image(tmp_path: Path) -> None:
    planes = np.zeros((1, 32, 32), np.uint16)
    write_plate(tmp_path / "in.ome.zarr", (2, 3), 1, lambda *place: planes)
    shutil.rmtree(tmp_path / "in.ome.zarr/B/2")
    engine = FakeEngine(judgement=replace(UNRATED, verdict="refocused", distance_um=3.0))
    for source, target in (("in.ome.zarr", "out.zarr"), ("in.ome.zarr/A/1/0", "one.zarr")):
        process(tmp_path / source, tmp_path / target, engine, lambda done: None)
    with Image.open(tmp_path / "out.zarr.refocus.png") as picture:
        drawn = np.asarray(picture.convert("RGB"))
    assert (drawn == COLOURS["refocused"]).all(-1).any()
    assert not (tmp_path / "one.zarr.refocus.png").exists()
