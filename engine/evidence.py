"""What speaks for and against a refocused frame, measured per tile and for the whole frame.

Three witnesses: what the network says of itself (distance, expected error), whether its result
explains what the camera saw when it is blurred again, and whether it has met such a specimen.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from refocus.configs.trust import TrustStatistics
from refocus.engine.judgement import TILE
from refocus.engine.reblur import Reblur

FLOOR = 1e-4
"""Smallest amount that counts, network units: under a count of any camera."""

NAMES = (
    "distance",
    "sigma",
    "correction",
    "expected error",
    "noise",
    "residual over noise",
    "residual over correction",
    "domain",
    "contrast",
    "fine detail",
    "below black",
    "above white",
    "mid level",
    "distance spread",
)
"""The evidence, in its order."""


class NetworkOutputs(NamedTuple):
    """What a network says of a frame ``(H, W)``, in network units and µm.

    Attributes
    ----------
    refocused
        ``(H, W)``.
    distance_um
        ``(2, H/s, W/s)``: distance from focus and its standard deviation.
    error
        ``(1, H/2, W/2)``: scale of the error expected.
    features
        ``(C, H/s, W/s)`` of the encoder.
    """

    refocused: NDArray[np.float32]
    distance_um: NDArray[np.float32]
    error: NDArray[np.float32]
    features: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Evidence:
    """Evidence on one frame.

    Attributes
    ----------
    tiles
        ``(h, w, E)`` in the order of :data:`NAMES`.
    frame
        ``(E,)``, of all tiles together, those with more to see counting more.
    distance_um, sigma_um
        ``(h, w)``.
    weight
        ``(h, w)``, how much there is to see in each tile; sums to 1.
    consistency
        Of the frame: the residual in units of the camera's noise.
    domain
        Of the frame: distance from the training set, 1 at its edge.
    """

    tiles: NDArray[np.float32]
    frame: NDArray[np.float32]
    distance_um: NDArray[np.float32]
    sigma_um: NDArray[np.float32]
    weight: NDArray[np.float32]
    consistency: float
    domain: float


def gather(
    seen: NDArray[np.float32],
    outputs: NetworkOutputs,
    reblur: Reblur,
    familiar: "Familiar",
) -> Evidence:
    """Measure the evidence on a frame.

    Parameters
    ----------
    seen
        ``(H, W)``, the captured frame in network units, multiples of 32.
    outputs
        What the network made of it.
    reblur
        The model's optics.
    familiar
        What the training set looks like to the encoder.
    """
    captured, refocused = halved(seen), halved(outputs.refocused)
    correction = refocused - captured
    height, width = (-(-n // TILE) for n in seen.shape)
    distance, sigma = (over_tiles(part, (height, width)) for part in outputs.distance_um)
    mean = over_tiles(captured, (height, width))
    contrast2 = over_tiles(captured**2, (height, width)) - mean**2
    noise2 = over_tiles(noise_energy(seen) / np.float32(4), (height, width))
    weight = np.maximum(contrast2 - noise2, FLOOR**2)
    weight = np.asarray(weight / weight.sum(), np.float32)
    left = reblur.residual(captured, refocused, distance, weight)
    per_tile: dict[str, NDArray[Any]] = {
        "correction": correction**2,
        "error": outputs.error[0] ** 2,
        "residual": left**2,
        "fine": detail(refocused) ** 2,
        "fine captured": detail(captured) ** 2,
        "below": np.minimum(refocused + 0.02, 0) ** 2,
        "above": np.maximum(refocused - 1.2, 0) ** 2,
    }
    energy: dict[str, NDArray[np.float32]] = {
        name: over_tiles(part, (height, width)) for name, part in per_tile.items()
    }
    energy |= {"noise": noise2, "contrast": np.maximum(contrast2, 0)}
    domain = familiar.distance(outputs.features, (height, width))
    middle = float(np.median(captured))
    spread = float(np.sqrt(np.sum(weight * (distance - np.sum(weight * distance)) ** 2)))
    told = {"distance": distance, "sigma": sigma, "domain": domain}
    tiles = _columns(energy, told, middle, spread)
    whole: dict[str, Any] = {name: np.mean(part) for name, part in energy.items()}
    of_frame = {name: np.sum(weight * part) for name, part in told.items()}
    frame = _columns(whole, of_frame, middle, spread)
    consistency = float(np.sqrt(whole["residual"] / np.maximum(whole["noise"], FLOOR**2)))
    return Evidence(tiles, frame, distance, sigma, weight, consistency, float(of_frame["domain"]))


def _columns(
    energy: dict[str, Any], told: dict[str, Any], middle: float, spread: float
) -> NDArray[np.float32]:
    """Put the evidence in order; energies as the logarithm of an amplitude."""
    log = {name: 0.5 * np.log(part + FLOOR**2) for name, part in energy.items()}
    columns = (
        told["distance"],
        told["sigma"],
        log["correction"],
        log["error"],
        log["noise"],
        log["residual"] - log["noise"],
        log["residual"] - log["correction"],
        told["domain"],
        log["contrast"],
        log["fine"] - log["fine captured"],
        log["below"],
        log["above"],
        np.full_like(told["distance"], middle),
        np.full_like(told["distance"], spread),
    )
    return np.stack([np.asarray(c, np.float32) for c in columns], -1)


class Familiar:
    """Tells how far features are from those of the training set.

    Parameters
    ----------
    statistics
        As calibration found them.
    """

    def __init__(self, statistics: TrustStatistics) -> None:
        self._mean = np.array(statistics.feature_mean, np.float32)
        self._basis = np.array(statistics.feature_basis, np.float32)
        self._radius = statistics.feature_radius

    def distance(
        self, features: NDArray[np.float32], tiles: tuple[int, int]
    ) -> NDArray[np.float32]:
        """Give ``(h, w)`` distances from the mean, 1 at the edge of the training set."""
        pooled = pooled_features(features, tiles)
        components = (pooled - self._mean) @ self._basis
        return np.asarray(np.sqrt(np.mean(components**2, -1)) / self._radius, dtype=np.float32)


def pooled_features(features: NDArray[np.float32], tiles: tuple[int, int]) -> NDArray[np.float32]:
    """Bring ``(C, h', w')`` features to a number per tile, ``(h, w, C)``."""
    pooled = np.moveaxis(over_tiles(features, tiles), 0, -1)
    return np.log1p(np.maximum(pooled, 0))


def over_tiles(part: NDArray[np.float32], tiles: tuple[int, int]) -> NDArray[np.float32]:
    """Average ``(..., H', W')`` over tiles, the last ones being smaller, to ``(..., h, w)``."""
    sums: NDArray[Any] = part
    counts: Any = np.float32(1.0)
    for axis, number in zip((-2, -1), tiles, strict=True):
        length = part.shape[axis]
        starts = np.arange(0, length, _step(length, number))
        sums = np.add.reduceat(sums, starts, axis=axis)
        counted = np.diff(np.append(starts, length)).astype(np.float32)
        counts = counts * (counted[:, None] if axis == -2 else counted)
    return np.asarray(sums / counts, dtype=np.float32)


def _step(length: int, number: int) -> int:
    """Pixels of a part per tile; the part is a power of two smaller than the frame."""
    step = 1
    while -(-length // step) > number:
        step *= 2
    return step


def halved(pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    """Average 2 × 2 pixels."""
    rows = pixels[::2] + pixels[1::2]
    return np.asarray((rows[:, ::2] + rows[:, 1::2]) * np.float32(0.25))


def noise_energy(pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    """Estimate the variance of the camera's noise, at a quarter of the pixels.

    From differences that a smooth picture does not have (Immerkær, Comput. Vis. Image Underst.
    64:300, 1996), taken between the four pixels of a square, so each pixel is used once.
    """
    a, b = pixels[::2, ::2], pixels[::2, 1::2]
    c, d = pixels[1::2, ::2], pixels[1::2, 1::2]
    odd = a - b - c + d
    return np.asarray(odd * odd * np.float32(0.25))


def detail(pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    """Differences of neighbours along both axes, added."""
    change = np.zeros_like(pixels)
    change[:-1] += np.abs(np.diff(pixels, axis=0))
    change[:, :-1] += np.abs(np.diff(pixels, axis=1))
    return change
