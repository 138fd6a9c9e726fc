"""Frames of phase contrast."""

import numpy as np

from refocus.configs import Optics
from refocus.optics.phase import phase_contrast


def test_cells_are_dark_and_bright_about_a_grey_ground() -> None:
    light = phase_contrast((192, 192), np.random.default_rng(0), Optics(), 0.0)

    middle = np.median(light)
    assert light.shape == (192, 192)
    assert light.dtype == np.float32
    assert 0.2 < middle < 0.9
    assert np.percentile(light, 1) < middle < np.percentile(light, 99)


def test_out_of_focus_the_light_is_the_same_and_elsewhere() -> None:
    sharp, far = (
        phase_contrast((192, 192), np.random.default_rng(0), Optics(), z) for z in (0.0, 20.0)
    )

    assert abs(sharp.mean() / np.percentile(sharp, 99.9) - far.mean()) < 0.3
    assert np.abs(sharp - far).mean() > 0.01
