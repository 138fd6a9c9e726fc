"""Spectra of frames of any size and brightness."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from refocus.engine.light_path.spectrum import BINS, MOST, brightest, shows, spectra
from refocus.optics.specimens import nuclei


@pytest.mark.parametrize("shape", [(32, 32), (64, 200), (256, 256), (700, 900)])
def test_every_frame_has_one(shape: tuple[int, int]) -> None:
    frame = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    found, share = spectra(frame)
    assert 1 <= len(found) <= MOST**2
    assert 0.25 < share <= 1.0
    assert found.shape[1] == BINS
    assert np.isfinite(found).all()


def test_brightness_does_not_matter() -> None:
    frame = np.random.default_rng(0).normal(size=(256, 256)).astype(np.float32)
    np.testing.assert_allclose(spectra(frame * 40 + 900)[0], spectra(frame)[0], atol=1e-3)


def test_a_constant_frame_is_described() -> None:
    assert np.isfinite(spectra(np.full((128, 128), 7, np.float32))[0]).all()


def noise(shape: tuple[int, int], seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).poisson(100, shape).astype(np.float32)


def shaded(frame: NDArray[np.float32]) -> NDArray[np.float32]:
    return frame + np.linspace(0, 30, frame.shape[0], dtype=np.float32)[:, None]


def with_hot_pixels(frame: NDArray[np.float32]) -> NDArray[np.float32]:
    frame.flat[[5, 777, 1000]] += 3000
    return frame


@pytest.mark.parametrize("side", [128, 200, 256])
@pytest.mark.parametrize("spoiled", [np.copy, shaded, with_hot_pixels])
def test_noise_shows_nothing(
    side: int, spoiled: Callable[[NDArray[np.float32]], NDArray[np.float32]]
) -> None:
    log = [spectra(spoiled(noise((side, side), seed)))[0] for seed in range(20)]
    assert np.mean([shows(one, side).any() for one in log]) <= 0.05


@pytest.mark.parametrize("side", [64, 128, 256])
@pytest.mark.parametrize("blurred", [0.0, 3.0, 8.0])
def test_a_few_photons_of_a_specimen_show(side: int, blurred: float) -> None:
    rng = np.random.default_rng(1)
    light = 20 + 60 * gaussian_filter(nuclei((side, side), rng), blurred)
    assert shows(spectra(rng.poisson(light).astype(np.float32))[0], side).all()


def test_one_thing_between_the_windows_is_found() -> None:
    frame = noise((1500, 1500))
    frame[300:330, 460:490] += 200
    assert not shows(spectra(frame)[0], 256).any()
    window = brightest(frame)
    assert window.shape == (256, 256)
    assert window.max() > 250
    assert shows(spectra(window)[0], 256).all()
