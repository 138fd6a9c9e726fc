"""What an import costs: a microscope PC without PyTorch, a reader without a microscope."""

import subprocess
import sys

import pytest

HEAVY = {"torch", "openvino", "lightning", "scipy", "skimage", "tensorrt"}
MICROSCOPE = {"pymmcore_plus", "pymmcore", "useq", "ome_writers", "tensorstore"}


@pytest.mark.parametrize(
    ("statement", "never"),
    [
        ("import refocus.acquisition", HEAVY | MICROSCOPE),
        ("from refocus.acquisition import attach", HEAVY),
        ("from refocus.acquisition import subscribe", HEAVY | MICROSCOPE),
        ("import refocus.view", HEAVY | MICROSCOPE),
        ("import refocus.engine", HEAVY),
        ("import refocus.acquisition.command.cli", HEAVY | MICROSCOPE),
        ("import refocus.training.cli, refocus.export.cli", HEAVY),
    ],
)
def test_an_import_brings_nothing_heavy(statement: str, never: set[str]) -> None:
    code = (
        f"import sys; {statement}; print(*sorted({{name.split('.')[0] for name in sys.modules}}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert not never & set(done.stdout.split())
