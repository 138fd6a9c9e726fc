"""One frame through every way there is: the same pixels, and the same verdict."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from refocus.configs import Optics
from refocus.configs.light_path import LightPath
from refocus.engine import open_engine
from refocus.optics.camera import CameraModel
from refocus.optics.defocus import defocus
from refocus.optics.specimens import nuclei
from refocus.training.judging.candidate import Candidate

from .conftest import read_zarr, refocus_live

MODEL_UM = 0.656


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a folder that holds one frame, 8 µm from focus, of 0.656 µm pixels."""
    rng = np.random.default_rng(3)
    light = nuclei((160, 192), rng) * 2000 + 100
    blurred = defocus(light, Optics(pixel_size_um=MODEL_UM, spherical_waves=-0.5), 8.0)
    folder = tmp_path_factory.mktemp("frames")
    Image.fromarray(CameraModel().expose(blurred, rng)).save(folder / "frame.png")
    return folder


@pytest.mark.parametrize("pixel_size_um", [MODEL_UM, 0.325, 0.2])
def test_replay_process_and_evaluate_agree(
    folder: Path, tmp_path: Path, pixel_size_um: float
) -> None:
    size = ("--pixel-size-um", pixel_size_um)

    live = refocus_live("run", "--replay", folder, "--save", tmp_path / "run", *size)
    assert live.returncode == 0, live.stderr
    recorded = refocus_live("process", folder, tmp_path / "out", "--json", *size)
    assert recorded.returncode == 0, recorded.stderr
    known = LightPath(pixel_size_um)
    engine = open_engine("openvino", light_paths=[known])  # in this CPU's own precision
    candidate = Candidate(engine, known)
    judged = candidate.judged(np.asarray(Image.open(folder / "frame.png")), "")

    (published,) = read_zarr(tmp_path / "run" / "refocused.ome.zarr")
    np.testing.assert_array_equal(published, judged.published)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "out" / "frame.png")), published)
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert report["verdicts"] == {judged.verdict: 1}
    assert json.loads(recorded.stdout)["verdicts"] == {judged.verdict: 1}
