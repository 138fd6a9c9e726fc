"""The benchmark of slides and plates runs, on small ones."""

import json
import sys
from pathlib import Path

import pytest

from refocus.bench import plates, scale
from refocus.bench.plates import PlateRow
from refocus.bench.scale import RatioRow, SlideRow, compare, figures, measure, table


def test_a_slide_is_measured_in_a_process_of_its_own(tmp_path: Path) -> None:
    row = measure(300, "fake", tmp_path)
    assert (row.side, row.regions) == (300, 1)
    assert row.peak_mb > 10
    assert [path.name for path in tmp_path.iterdir()] == ["slide-300.tif"]


@pytest.mark.parametrize(("side", "regions"), [(300, 1), (2600, 9)])
def test_the_engine_alone_and_workers_are_compared_on_one_slide(
    side: int, regions: int, tmp_path: Path
) -> None:
    row = compare(side, "fake", 1, tmp_path)
    assert row.regions == regions
    assert row.over_alone == row.one / row.alone > 0
    assert row.times == row.one / row.two > 0
    assert row.busy > 0
    assert [path.name for path in tmp_path.iterdir()] == [f"slide-{side}.tif"]


def test_the_table_says_what_was_wanted() -> None:
    slides = [SlideRow(20000, "fake", 529, 219.0, 832.0)]
    plate = PlateRow(96, 864, 64, 0.3, 0.3, wall_ms=5.6, cpu_ms=5.5)
    ratio = RatioRow(10000, "refocus-compact", 144, 60.0, 63.0, 35.0, 1.05, 1.75, 1.1)
    lines = table(figures(slides, [plate], [ratio])).splitlines()[2:]
    assert [line.split("|")[2:5] for line in lines] == [
        [" ≤ 1500 ", " 832 ", " met "],
        ["  ", " 219 ", "  "],
        [" ≤ 5 ", " 5.6 ", " missed "],
        ["  ", " 60 ", "  "],
        [" ≤ 1.15 ", " 1.05 ", " met "],
        ["  ", " 1.10 ", "  "],
        [" ≥ 1.8 ", " 1.75 ", " missed "],
    ]


def test_the_command_prints_one_table(capsys: pytest.CaptureFixture[str]) -> None:
    scale.main(
        [
            *("--sides", "300", "--wells", "6", "--fields", "1"),
            *("--side", "300"),
            *("--engine", "fake", "--rounds", "1"),
        ]
    )
    first, _, *lines = capsys.readouterr().out.splitlines()
    assert first.startswith("On ")
    assert "before" in first
    assert len(lines) == 2 + 7
    assert any("plate of 6 wells, 6 planes of 64²" in line for line in lines)


def test_a_plate_is_opened_alone(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["plates", "--wells", "6", "--fields", "2", "--open"])
    plates.main()
    said = json.loads(capsys.readouterr().out)
    assert (said["wells"], said["planes"], said["wall_ms"]) == (6, 12, None)
    assert said["open_s"] > 0
