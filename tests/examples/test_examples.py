"""Every script and notebook of examples/ runs as it is, on simulated hardware."""

import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

EXAMPLES = Path(__file__).parents[2] / "examples"
RUNS = {
    "attach_to_your_core.py": (
        ["--frames", "2", "--mm-config", "MMConfig_demo.cfg", "--save", "raw.ome.zarr"],
        ["2 of 2 frames refocused", "ms from capture to result"],
    ),
    "processors.py": (
        [],
        ["processor __main__:nuclei", " nuclei", "3 published, 0 not processed"],
    ),
    "refocus_or_take_again.py": (
        [],
        ["field 0: ", "from focus: taken again", "frames came"],
    ),
    "subscribe_from_another_computer.py": (
        ["--frames", "3"],
        ["the run is over: 3 received, 0 lost on the way"],
    ),
    "train_on_your_own_stack.py": (
        ["--steps", "2"],
        ["own-stack 1, for pixels of 0.656 µm", "refocused a plane of (160, 160): uint16"],
    ),
    "use_a_model.py": ([], ["openvino refocus-compact on ", "wrote refocused.tif"]),
}


def test_every_example_is_run_here() -> None:
    assert {file.name for file in EXAMPLES.glob("*.py")} == set(RUNS)
    assert [file.name for file in EXAMPLES.glob("*.ipynb")] == ["refocus.ipynb"]


def run(name: str, arguments: list[str], folder: Path) -> str:
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / name), *arguments],
        cwd=folder,
        # one thread for PyTorch: two that wait for each other take longer over a small model
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONIOENCODING": "utf-8"},
        capture_output=True,
        encoding="utf-8",
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_a_script_runs(name: str, tmp_path: Path) -> None:
    arguments, expected = RUNS[name]
    printed = run(name, arguments, tmp_path)
    for text in expected:
        assert text in printed
    if "--save" in arguments:
        assert (tmp_path / "raw.ome.zarr" / "zarr.json").exists()


@pytest.mark.slow
def test_attaching_is_by_default_to_a_simulated_microscope_and_sharpens(tmp_path: Path) -> None:
    printed = run("attach_to_your_core.py", ["--frames", "1"], tmp_path)
    gain = re.search(r"frame 0 .*: ([\d.]+) times the contrast", printed)
    assert gain
    assert float(gain[1]) > 1.05


@pytest.mark.slow
def test_the_notebook_runs_and_is_kept_without_outputs(tmp_path: Path) -> None:
    notebook = nbformat.read(EXAMPLES / "refocus.ipynb", as_version=4)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert not any(cell.outputs or cell.execution_count for cell in cells)
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": tmp_path}}).execute()
    printed = "".join(out.get("text", "") for cell in cells for out in cell.outputs)
    assert "4 of 4 frames, 0 dropped" in printed
    shown = [out for cell in cells for out in cell.outputs if out.output_type == "display_data"]
    assert len(shown) == 1
    assert "image/png" in shown[0].data
