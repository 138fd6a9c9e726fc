"""What training knows of the light path of a pair, and what a network is told of it."""

import math

import numpy as np
import pytest
import torch

from refocus.configs import BBBC006, Optics
from refocus.configs.training import SimulationConfig
from refocus.optics.psf import psf
from refocus.training.network.losses import focus_loss
from refocus.training.network.unet import ARCHITECTURES, Refocused
from refocus.training.pairs.pool import open_specimens
from refocus.training.pairs.simulate import SimulatedPairs, light_path


def optics(spherical_waves: float) -> Optics:
    return BBBC006.model_copy(update={"spherical_waves": spherical_waves})


@pytest.mark.parametrize("defocus_um", [-9.0, 4.0, 20.0])
def test_light_paths_of_one_picture_have_one_description(defocus_um: float) -> None:
    one, other = (optics(-0.4), defocus_um), (optics(0.4), -defocus_um)

    np.testing.assert_allclose(psf(*one), psf(*other), atol=1e-7)
    assert light_path(*one, BBBC006) == light_path(*other, BBBC006)
    assert np.abs(psf(*one) - psf(optics(-0.4), -defocus_um)).max() > 1e-4
    assert light_path(*one, BBBC006) == (abs(defocus_um), float(defocus_um > 0), -0.4)


def test_without_aberration_the_sides_are_alike() -> None:
    np.testing.assert_allclose(psf(optics(0.0), 8.0), psf(optics(0.0), -8.0), atol=1e-7)
    assert math.isnan(light_path(optics(0.0), 8.0, BBBC006).side)


def test_simulated_pairs_know_their_light_path() -> None:
    config = SimulationConfig(
        synthetic=3, psfs=40, tilt_fraction=0.0, in_focus_fraction=0.2, measured_fraction=1.0
    )
    pairs = SimulatedPairs(open_specimens(config, 0), config, 64, seed=1)

    known = np.array([pairs[number].focus for number in range(60)])

    sharp = known[:, 0] == 0
    assert 4 <= sharp.sum() <= 22
    assert np.isnan(known[sharp, 1:]).all()
    assert set(known[~sharp, 1]) == {0.0, 1.0}
    assert known[~sharp, 2].mean() == pytest.approx(-0.5, abs=0.1)


def test_a_tilted_pair_keeps_to_one_light_path() -> None:
    config = SimulationConfig(
        synthetic=3,
        psfs=40,
        tilt_fraction=1.0,
        in_focus_fraction=0.0,
        defocus_um=(10.0, 12.0),
        near_fraction=0.0,
    )
    pairs = SimulatedPairs(open_specimens(config, 0), config, 64, seed=1)

    known = np.array([pairs[number].focus for number in range(20)])

    assert np.isfinite(known[:, :2]).all()  # 10 µm from focus, a tilt of 6 µm crosses no focus
    assert 5.0 < known[:, 0].min() < known[:, 0].max() < 19.0


def output(*focus: float) -> Refocused:
    told = torch.tensor(focus).view(1, 4, 1, 1).expand(1, 4, 2, 3).clone().requires_grad_()
    return Refocused(
        torch.zeros(1, 1, 8, 12), told, torch.ones(1, 1, 4, 6), torch.zeros(1, 5, 2, 3)
    )


def test_the_truth_costs_least() -> None:
    truth = torch.tensor([[8.0, 1.0, -0.5]])
    right = focus_loss(output(8.0, 1.0, 0.99, -0.5), truth)

    for wrong in ((6.0, 1.0, 0.99, -0.5), (8.0, 1.0, 0.3, -0.5), (8.0, 1.0, 0.99, -0.1)):
        assert focus_loss(output(*wrong), truth) > right


def test_what_is_not_known_teaches_nothing() -> None:
    told = output(8.0, 1.0, 0.4, -0.5)

    focus_loss(told, torch.tensor([[math.nan, 0.0, math.nan]])).backward()

    assert told.focus.grad is not None
    assert torch.isfinite(told.focus.grad).all()
    assert (told.focus.grad[:, [0, 1, 3]] == 0).all()
    assert (told.focus.grad[:, 2] > 0).all()
    assert focus_loss(told, torch.full((1, 3), math.nan)) == 0


@pytest.mark.parametrize("architecture", sorted(ARCHITECTURES))
def test_a_decoder_hears_what_it_is_told(architecture: str) -> None:
    torch.manual_seed(0)
    network = ARCHITECTURES[architecture]().eval()
    for module in network.modules():  # what is told shifts nothing before training
        if type(module).__name__ in ("Told", "OutputHead"):
            for weight in module.parameters():
                torch.nn.init.normal_(weight)
    inputs = network.inputs
    frames = torch.rand(1, inputs, 64, 64).expand(3, inputs, 64, 64)
    nan = math.nan
    with torch.no_grad():
        own = network(frames[:1])
        told = network(frames, torch.tensor([[nan, nan, nan], [8.0, 1.0, -0.5], [8.0, 0.0, -0.5]]))

    torch.testing.assert_close(told.pixels[:1], own.pixels, atol=1e-4, rtol=1e-4)
    assert (told.pixels[1] - told.pixels[2]).abs().max() > 1e-3
    torch.testing.assert_close(told.focus[1:], told.focus[:1].expand(2, -1, -1, -1))
