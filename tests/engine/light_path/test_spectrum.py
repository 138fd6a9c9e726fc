"""Spectra of frames of any size and brightness."""

import numpy as np
import pytest

from refocus.engine.light_path.spectrum import BINS, MOST, spectra


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
