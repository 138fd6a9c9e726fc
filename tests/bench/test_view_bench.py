"""The script that measures the viewer, on frames that cost nothing."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "bench" / "view_bench.py"


@pytest.mark.slow
def test_the_viewer_is_measured(chromium, tmp_path):
    file = tmp_path / "figures.json"
    small = ["--size", "64", "--fps", "10", "--seconds", "2", "--window", "600x500"]
    command = [sys.executable, str(SCRIPT), *small, "--browser", chromium, "--json", str(file)]
    printed = subprocess.run(command, capture_output=True, text=True, timeout=240, check=True)
    figures = json.loads(file.read_text())
    assert json.loads(printed.stdout) == figures
    assert 0 < figures["pictures_per_s"] < 20
    assert 0 < figures["capture_to_screen_ms"]["p50"] <= figures["capture_to_screen_ms"]["p99"]
    assert len(figures["ready_ms"]) == 5
    assert figures["ready_ms"][0] > 0
