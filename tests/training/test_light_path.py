"""Teaching the estimator of the light path, by its command."""

import json
from pathlib import Path

import numpy as np
import pytest

from refocus.configs import RefocusError
from refocus.configs.presets import load_train_config
from refocus.engine.light_path.estimate import RADII, Estimator
from refocus.optics.transfer import paraxial
from refocus.training import cli
from refocus.training.light_path import read_estimator
from refocus.training.pairs.batches import open_pairs

CONFIG = """
name: few light paths
training_data: synthetic nuclei
architecture: compact-told
steps: 1
simulation:
  synthetic: 16
  kinds: {nuclei: 1, membranes: 1}
  objectives: {light_paths: 24, cache: CACHE}
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Give a run on a few light paths."""
    file = tmp_path / "few.yaml"
    file.write_text(CONFIG.replace("CACHE", str(tmp_path)))
    return file


def test_it_learns_what_spectra_show(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "made" / "light-paths.json"
    command = ["light-paths", "--config", str(config), "--output", str(file)]
    assert cli.app([*command, "--examples", "1024", "--json"], standalone_mode=False) in (0, None)
    weights = read_estimator(file)
    assert json.loads(capsys.readouterr().out)["sha256"] == weights.digest()

    estimator = Estimator(weights, 0.5)
    seen, blurs = open_pairs(load_train_config(str(config)), measured=False).spectra(999, 48, 256)
    near = []
    for frame, (sampling, aperture, radius, _) in zip(seen.numpy(), blurs.numpy(), strict=True):
        chances = np.exp(estimator.posterior(frame, sampling, aperture).log).sum(1)
        true = abs(radius) * paraxial(float(aperture))
        near.append(chances[np.abs(RADII - true) <= 0.35 * true + 0.5].sum())
    # chance alone gives about a sixth
    assert np.mean(near) > 0.35


@pytest.mark.parametrize(
    ("text", "expected"),
    [(None, "light-paths' makes one"), ("{}", "holds no estimator"), ("nonsense", "holds no")],
)
def test_a_file_that_holds_none_is_refused(text: str | None, expected: str, tmp_path: Path) -> None:
    file = tmp_path / "light-paths.json"
    if text is not None:
        file.write_text(text)
    with pytest.raises(RefocusError, match=expected):
        read_estimator(file)


def test_a_run_of_one_instrument_has_no_light_path_to_estimate(tmp_path: Path) -> None:
    command = ["light-paths", "--config", "simulated-nuclei-compact", "--output"]
    with pytest.raises(RefocusError, match="does not simulate 'objectives'"):
        cli.app([*command, str(tmp_path / "x.json")], standalone_mode=False)
