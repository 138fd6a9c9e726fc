"""The benchmark of slides runs, on a slide of one region."""

from pathlib import Path

from refocus.bench.scale import measure, table


def test_a_slide_is_measured(tmp_path: Path) -> None:
    row = measure(300, "fake", 1, tmp_path)
    assert (row.side, row.regions) == (300, 1)
    assert row.peak_mb > 10
    assert table([row]).splitlines()[2].startswith("| 300² | `fake` | 1 | 1 | ")
