"""Filters undo a blur that is told, on the host as on a device."""

import numpy as np
import pytest
import torch

from refocus.configs import Optics
from refocus.engine.light_path.filters import CHANNELS, Likely, noise_share, show, tables
from refocus.engine.torch.filters import TensorFilters
from refocus.optics.defocus import convolve
from refocus.optics.psf import psf
from refocus.optics.specimens import filaments
from refocus.optics.transfer import blur_of

OBJECTIVES = {
    "10×/0.30": (Optics(na=0.30, emission_um=0.52, pixel_size_um=0.65), 12.0),
    "40×/0.95": (Optics(na=0.95, emission_um=0.60, pixel_size_um=0.1625), 0.8),
    "20×/0.50, aberrated": (Optics(spherical_waves=-0.5), 8.0),
}


def pictures(optics: Optics, defocus_um: float) -> tuple[np.ndarray, np.ndarray]:
    """Give a noisy frame out of focus, and the same in focus without noise."""
    rng = np.random.default_rng(5)
    specimen = filaments((160, 192), rng)
    truth, blurred = (convolve(specimen, psf(optics, z)) for z in (0.0, defocus_um))
    noise = rng.normal(0, 0.01, truth.shape)
    return (blurred + noise).astype(np.float32), truth


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_filter_that_is_told_the_light_path_brings_the_frame_nearer_to_focus(
    objective: str,
) -> None:
    optics, defocus_um = OBJECTIVES[objective]
    frame, truth = pictures(optics, defocus_um)
    blur = blur_of(optics, defocus_um)
    shown = show(frame, Likely(blur, blur))
    assert shown.shape == (CHANNELS, *frame.shape)
    np.testing.assert_array_equal(shown[0], frame)
    errors = [float(np.mean((part - truth)[16:-16, 16:-16] ** 2)) for part in shown]
    assert min(errors[1:3]) < 0.6 * errors[0]


@pytest.mark.parametrize(("height", "apart"), [(1.0, 2e-3), (40.0, 1.0)])
@pytest.mark.parametrize("shape", [(64, 64), (96, 160)])
def test_a_device_makes_the_same_of_it(shape: tuple[int, int], height: float, apart: float) -> None:
    rng = np.random.default_rng(1)
    frame = rng.normal(0.3, 0.2, shape).astype(np.float32)
    frame[20:40, 10:50] += height
    likely = Likely(blur_of(Optics(), 6.0), blur_of(Optics(), 12.0))
    filters = TensorFilters(torch.device("cpu"))
    given = filters.show(torch.from_numpy(frame)[None], torch.from_numpy(tables(likely))[None])[
        0
    ].numpy()
    np.testing.assert_allclose(given, show(frame, likely), atol=apart)


def test_the_noise_is_told_from_the_structure() -> None:
    rng = np.random.default_rng(2)
    smooth = np.outer(np.hanning(128), np.hanning(128)).astype(np.float32)
    noisy = smooth + rng.normal(0, 0.02, smooth.shape).astype(np.float32)
    assert noise_share(smooth) < 1e-6
    assert noise_share(noisy) == pytest.approx(0.02**2 / noisy.var(), rel=0.25)


def test_a_light_path_that_is_told_has_no_second() -> None:
    told = blur_of(Optics(), 8.0)
    other = told._replace(radius=3.0, chance=0.3)
    assert Likely(told, told).chances == (1.0, 0.0)
    assert Likely(told._replace(chance=0.6), other).chances == (0.6, 0.3)


def test_a_few_bright_beads_are_not_cut_off() -> None:
    frame = np.zeros((64, 96), np.float32)
    frame[28:36, 40:48] = 40
    blur = blur_of(Optics(), 6.0)
    assert show(frame, Likely(blur, blur)).max() > 40
    frame = np.zeros((64, 96), np.float32)
    frame[30, 40] = 200  # a hot pixel is
    assert show(frame, Likely(blur, blur))[1:].max() < 40
