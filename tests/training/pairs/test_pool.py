"""What simulated pairs are pictures of."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from refocus.configs import RefocusError
from refocus.configs.training import SimulationConfig, SpecimensConfig
from refocus.training.pairs.pool import Specimens, load_specimens, open_specimens
from refocus.training.pairs.simulate import SimulatedPairs


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give two sites of four wells, one brighter than the next."""
    path = tmp_path_factory.mktemp("sharp")
    for well in range(1, 5):
        for site in (1, 2):
            pixels = np.random.default_rng([well, site]).integers(0, 20 * well, (96, 96))
            Image.fromarray(pixels.astype(np.uint8)).save(path / f"a0{well}_s{site}.png")
    return path


def test_groups_are_drawn_by_weight() -> None:
    one, other = (np.full((8, 8), v, np.float32) for v in (0.0, 1.0))
    specimens = Specimens([([one], 3.0), ([other, other], 1.0), ([], 5.0)])
    rng = np.random.default_rng(0)

    drawn = [specimens.draw(rng)[0, 0] for _ in range(4000)]

    assert np.mean(drawn) == pytest.approx(0.25, abs=0.03)


def test_wells_held_out_are_no_specimens(folder: Path) -> None:
    all_of_them = load_specimens(SpecimensConfig(folder=folder, sharpest=1.0))
    kept = load_specimens(SpecimensConfig(folder=folder, sharpest=1.0, held_out=0))

    assert (len(all_of_them), len(kept)) == (8, 6)


def test_nothing_to_look_at_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RefocusError, match="there is no specimen"):
        open_specimens(SimulationConfig(synthetic=0), seed=0)
    Image.fromarray(np.full((64, 64), 7, np.uint8)).save(tmp_path / "flat.png")
    with pytest.raises(RefocusError, match="no image that could be a specimen"):
        load_specimens(SpecimensConfig(folder=tmp_path))
    with pytest.raises(RefocusError, match="no such folder"):
        load_specimens(SpecimensConfig(folder=tmp_path / "missing"))


def test_what_is_no_image_is_passed_over(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "below").symlink_to(folder)
    (tmp_path / "notes").mkdir()
    for name in (".DS_Store", "notes/read.txt", "notes/._a01_s1.png"):
        (tmp_path / name).write_bytes(b"no image")
    assert len(load_specimens(SpecimensConfig(folder=tmp_path, sharpest=1.0))) == 8


def test_foreign_pairs_are_to_be_left_alone() -> None:
    config = SimulationConfig(synthetic=2, psfs=2, foreign_fraction=1.0)
    pairs = SimulatedPairs(open_specimens(config, 0), config, 96, seed=1)

    pair = pairs[0]

    np.testing.assert_array_equal(pair.frame, pair.target)
    assert np.isnan(pair.focus).all()


def test_defects_stay_and_no_pair_is_beyond_what_a_network_is_shown() -> None:
    config = SimulationConfig(synthetic=4, psfs=4, defects_fraction=1.0, kinds={"beads": 1.0})
    pairs = SimulatedPairs(open_specimens(config, 0), config, 96, seed=1)

    for number in range(8):
        pair = pairs[number]
        assert np.abs(pair.frame).max() <= 256.0
        assert np.isfinite(pair.target).all()
