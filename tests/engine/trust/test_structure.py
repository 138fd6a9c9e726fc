"""Frames that show something, and frames that show the camera's noise."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from refocus.configs import Optics
from refocus.engine.prepare import prepare
from refocus.engine.trust.structure import shows_structure
from refocus.optics.camera import CameraModel
from refocus.optics.defocus import defocus
from refocus.optics.specimens import GENERATORS

Rng = np.random.Generator


def _hot_pixels(rng: Rng, side: int) -> NDArray[Any]:
    frame = rng.normal(100, 2, (side, side))
    frame[rng.integers(0, side, 30), rng.integers(0, side, 30)] += 3000
    return frame


def _shaded(rng: Rng, side: int) -> NDArray[Any]:
    return 100 + 2 * rng.poisson(400 * np.linspace(0.8, 1.2, side) * np.ones((side, 1)))


BLANK: dict[str, Callable[[Rng, int], NDArray[Any]]] = {
    "shutter, without noise": lambda rng, side: np.zeros((side, side)),
    "shutter": lambda rng, side: rng.normal(100, 2, (side, side)),
    "shutter, at the bottom of the range": lambda rng, side: rng.normal(0, 0.6, (side, side)),
    "shutter, noise below a count": lambda rng, side: rng.normal(10, 0.3, (side, side)),
    "shutter, hot pixels": _hot_pixels,
    "columns of an sCMOS": lambda rng, side: (
        rng.normal(100, 4, (side, side)) + rng.normal(0, 0.4, side)
    ),
    "lamp without specimen": lambda rng, side: 100 + 2 * rng.poisson(400, (side, side)),
    "lamp without specimen, shaded": _shaded,
    "saturated": lambda rng, side: np.full((side, side), 65535),
    "saturated, but for a few": lambda rng, side: np.where(
        rng.random((side, side)) < 0.001, 4000, 4095
    ),
}


@pytest.mark.parametrize("kind", BLANK)
@pytest.mark.parametrize("side", [128, 256, 512])
def test_noise_is_no_structure(kind: str, side: int) -> None:
    drawn = BLANK[kind](np.random.default_rng(1), side)
    frame = np.clip(np.rint(drawn), 0, 65535).astype(np.uint16)

    assert not shows_structure(prepare(frame).seen)


@pytest.mark.parametrize("kind", [kind for kind in GENERATORS if kind != "empty"])
@pytest.mark.parametrize("distance_um", [0.0, 8.0, -8.0])
def test_dim_specimens_are_seen(kind: str, distance_um: float) -> None:
    rng = np.random.default_rng(3)
    electrons = 20 * np.clip(GENERATORS[kind]((256, 256), rng), 0, None) + 1
    frame = CameraModel().expose(defocus(electrons.astype(np.float32), Optics(), distance_um), rng)

    assert shows_structure(prepare(frame).seen)


def test_one_small_thing_in_a_large_frame_is_seen() -> None:
    frame = np.random.default_rng(0).normal(100, 3, (1024, 1024))
    frame[500:516, 300:316] += 12

    assert shows_structure(prepare(np.rint(frame).astype(np.uint16)).seen)


@pytest.mark.parametrize("period", [4, 12, 40])
@pytest.mark.parametrize("axis", [0, 1])
def test_gratings_are_seen(period: int, axis: int) -> None:
    wave = np.sin(2 * np.pi * np.indices((256, 256))[axis] / period)
    frame = np.random.default_rng(0).poisson(200 + 100 * wave).astype(np.uint16)

    assert shows_structure(prepare(frame).seen)


@pytest.mark.parametrize("noise_only", [True, False])
def test_tensors_are_measured_as_arrays_are(noise_only: bool) -> None:
    rng = np.random.default_rng(2)
    frame = rng.normal(1000, 10, (256, 256)) + (
        0 if noise_only else 100 * (rng.random() + np.eye(256))
    )
    seen = prepare(np.rint(frame).astype(np.uint16)).seen

    assert shows_structure(seen) == shows_structure(torch.from_numpy(seen)) == (not noise_only)
