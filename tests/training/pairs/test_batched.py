"""Batches simulated on the device that trains: what they hold, and that they are repeatable."""

import numpy as np
import pytest
import torch

from refocus.configs.light_path import Blur
from refocus.configs.training import ObjectivesConfig, SimulationConfig
from refocus.optics.transfer import blur_of, sampled
from refocus.training.pairs.batched import BatchedPairs, Measured
from refocus.training.pairs.light_paths import (
    COLUMNS,
    GUESSES,
    WINDOW,
    LightPaths,
    draw_blur,
    draw_light_paths,
)
from refocus.training.pairs.pool import TILE, SpecimenTiles, grow_tiles, open_tiles

OBJECTIVES = ObjectivesConfig(light_paths=10)


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> LightPaths:
    """Light paths, as a run draws them."""
    cache = tmp_path_factory.mktemp("light paths")
    config = OBJECTIVES.model_copy(update={"cache": cache})
    drawn = draw_light_paths(config, 3)
    for first, again in zip(drawn, draw_light_paths(config, 3), strict=True):  # from the disk
        np.testing.assert_array_equal(first, again)
    return drawn


@pytest.fixture(scope="module")
def tiles() -> SpecimenTiles:
    """Synthetic specimens."""
    return open_tiles(SimulationConfig(synthetic=4), 3)


def pairs(paths: LightPaths, tiles: SpecimenTiles, seed: int = 3) -> BatchedPairs:
    """Give pairs, measured ones among them."""
    rng = np.random.default_rng(0)
    measured = Measured(*(rng.uniform(0, 900, (2, 200, 200)).astype(np.float32) for _ in "ab"))
    phase = np.stack(grow_tiles(["phase"], 3))
    return BatchedPairs(OBJECTIVES, paths, tiles, measured, phase, seed)


def test_a_batch_depends_on_the_seed_and_the_step_alone(
    paths: LightPaths, tiles: SpecimenTiles
) -> None:
    made = pairs(paths, tiles)
    first = made.batch(7, 8, 64, 0.25, 0.1)
    made.batch(8, 8, 64, 0.25, 0.1)
    again = made.batch(7, 8, 64, 0.25, 0.1)
    for one, other in zip(first, again, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0, equal_nan=True)
    assert not torch.equal(pairs(paths, tiles, 4).batch(7, 8, 64, 0.25, 0.1).frame, first.frame)
    assert first.frame.shape == (8, 4, 64, 64)
    assert first.target.shape == (8, 1, 64, 64)
    assert torch.isfinite(first.frame).all()
    assert torch.isfinite(first.target).all()
    assert (first.span >= 1).all()


def test_frames_are_blurred_as_the_optics_say(tiles: SpecimenTiles) -> None:
    """One light path, plenty of light: frame over truth is its transfer over that in focus."""
    blur = Blur(0.4, 0.5, 6.0, 0.2)
    out, focused = (sampled(b, (WINDOW, WINDOW), 0.0) for b in (blur, blur._replace(radius=0.0)))
    flat = np.ones((1, 2 + GUESSES, 256), np.float16)
    one = LightPaths(
        np.array([blur[:COLUMNS]], np.float32),
        out[None].astype(np.float16),
        focused[None].astype(np.float16),
        flat,
        np.repeat(np.array([[blur[:COLUMNS]]], np.float32), 1 + GUESSES, 1),
    )
    made = BatchedPairs(OBJECTIVES, one, tiles, None, np.zeros((1, TILE, TILE), np.float16), 1)
    light = made._light(24, WINDOW)
    kept = ~(light.sharp | light.tilted)
    power = [
        (torch.fft.rfft2(part[kept]).abs() ** 2).mean(0).numpy()
        for part in (light.blurred, light.truth())
    ]
    strong = power[1] > 1e-6 * power[1].max()
    ratio = np.sqrt(power[0][strong] / power[1][strong])
    wanted = np.abs(out / np.where(np.abs(focused) > 1e-3, focused, 1))[strong]
    counted = np.abs(focused[strong]) > 0.05
    assert np.median(np.abs(ratio - wanted)[counted]) < 0.01


def test_the_camera_adds_shot_noise(paths: LightPaths, tiles: SpecimenTiles) -> None:
    made = pairs(paths, tiles)
    even = torch.ones(64, 96, 96)
    frame, target = made._captured(even, even)
    electrons = target.mean((1, 2))
    noise = (frame - target)[:, ::2, ::2].flatten(1)
    spread = torch.quantile(noise, 0.84, 1) - torch.quantile(noise, 0.16, 1)
    # read noise of 0.5 to 6 electrons on top, and some are as coarse as 8 bit
    assert (spread / 2 > 0.85 * electrons.sqrt()).float().mean() > 0.9
    assert torch.median(spread / 2 / electrons.sqrt()) < 1.5


def test_light_paths_span_what_is_asked_for() -> None:
    rng = np.random.default_rng(0)
    drawn = np.array([draw_blur(rng, OBJECTIVES) for _ in range(2000)])
    low, high = drawn[:, 0].min(), drawn[:, 0].max()
    assert 0.09 < low < 0.12
    assert 1.0 < high < 1.3
    assert np.abs(drawn[:, 2]).max() <= OBJECTIVES.radius_px
    own = blur_of_instrument()
    near = np.abs(drawn[:, 0] / own.sampling - 1) < 0.2
    assert 0.2 < near.mean() < 0.5


def blur_of_instrument() -> Blur:
    """Give the light path of the measured pairs, in focus."""
    from refocus.configs import BBBC006

    return blur_of(BBBC006, 0.0)
