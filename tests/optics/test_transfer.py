"""The transfer function of a light path agrees with the point spread function."""

import numpy as np
import pytest

from refocus.configs import BBBC006, Optics
from refocus.optics.psf import psf
from refocus.optics.transfer import (
    at_places,
    blur_of,
    paraxial,
    places,
    sampled,
    transfer,
    waves_of_defocus,
)

SIDE = 128
CASES = {
    "dry, narrow": (Optics(na=0.30, emission_um=0.52, pixel_size_um=0.65), 12.0),
    "dry, wide": (Optics(na=0.95, emission_um=0.60, pixel_size_um=0.1625), 0.8),
    "oil": (Optics(na=1.4, emission_um=0.52, pixel_size_um=0.108, immersion_index=1.515), 0.8),
    "aberrated, one side": (BBBC006, 8.0),
    "aberrated, other side": (BBBC006, -8.0),
}


@pytest.mark.parametrize("case", CASES)
def test_it_is_the_spectrum_of_the_point_spread_function(case: str) -> None:
    optics, defocus_um = CASES[case]
    kernel = psf(optics, defocus_um)
    half = kernel.shape[0] // 2
    placed = np.zeros((SIDE, SIDE), np.float32)
    placed[: kernel.shape[0], : kernel.shape[1]] = kernel
    wanted = np.fft.rfft2(np.roll(placed, (-half, -half), (0, 1))).real
    band = optics.bandwidth_um / 2 / optics.emission_um
    given = sampled(blur_of(optics, defocus_um), (SIDE, SIDE), band)
    # the rings that a kernel of finite size leaves out are 1 % of the light
    assert np.abs(given - wanted).max() < 0.02


def test_it_is_one_at_frequency_zero_and_none_beyond_the_cutoff() -> None:
    blur = blur_of(Optics(na=0.2, emission_um=0.5, pixel_size_um=0.5), 5.0)
    table = transfer(blur)
    assert table[0] == pytest.approx(1.0)
    where = places(np.array([[0.0]]), np.array([[0.45]]))
    assert at_places(table, where)[0, 0] == 0.0


def test_both_signs_turned_make_the_same_blur() -> None:
    blur = blur_of(BBBC006, 8.0)
    mirrored = blur._replace(radius=-blur.radius, spherical=-blur.spherical)
    np.testing.assert_allclose(transfer(blur), transfer(mirrored), atol=1e-6)


def test_a_wide_cone_is_long_before_it_is_wide() -> None:
    assert paraxial(0.05) == pytest.approx(1.0, abs=0.002)
    assert paraxial(0.95) == pytest.approx(0.48, abs=0.01)
    optics = Optics(na=0.95, emission_um=0.5, pixel_size_um=0.1)
    path_um = 2.0 * (1 - np.sqrt(1 - 0.95**2))
    assert waves_of_defocus(blur_of(optics, 2.0)) == pytest.approx(path_um / 0.5, rel=1e-6)
