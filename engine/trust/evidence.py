"""What speaks for and against a refocused frame, measured per tile and for the whole frame.

Three witnesses: what the network says of itself (distance, expected error), whether its result
explains what the camera saw when it is blurred again, and whether it has met such a specimen.

Whole frames are measured where the network left them, by whatever array library holds them there
(the array API standard, https://data-apis.org/array-api); a few numbers per tile come to NumPy.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from array_api_compat import array_namespace, to_device
from numpy.typing import NDArray

from refocus.configs.trust import TrustStatistics
from refocus.engine.trust.judgement import TILE
from refocus.engine.trust.reblur import Reblur

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
    "side certainty",
    "aberration",
)
"""The evidence, in its order."""


Array = Any
"""``float32``: a NumPy array, or a tensor on the network's device."""


class NetworkOutputs(NamedTuple):
    """What a network says of a frame ``(H, W)``, in network units, µm and waves.

    Attributes
    ----------
    refocused
        ``(H, W)``.
    focus
        ``(4, H/s, W/s)``: distance from focus and its standard deviation; how likely it is to be on
        the positive side; spherical aberration.
    error
        ``(1, H/2, W/2)``: scale of the error expected.
    features
        ``(C, H/s, W/s)`` of the encoder.
    """

    refocused: Array
    focus: Array
    error: Array
    features: Array


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
    positive_side
        ``(h, w)``, how likely each tile is to be on the positive side of focus.
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
    positive_side: NDArray[np.float32]
    weight: NDArray[np.float32]
    consistency: float
    domain: float


def gather(seen: Array, outputs: NetworkOutputs, reblur: Reblur, familiar: "Familiar") -> Evidence:
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
    height, width = (-(-n // TILE) for n in seen.shape)
    tiles = height, width
    distance, sigma, side, aberration = on_host(over_tiles(outputs.focus, tiles))
    mean, square, noise2 = over_maps((captured, captured**2, noise_energy(seen) * 0.25), tiles)
    contrast2 = square - mean**2
    weight = np.maximum(contrast2 - noise2, FLOOR**2)
    weight = np.asarray(weight / weight.sum(), np.float32)
    left = reblur.residual(captured, refocused, distance, weight)
    names = ("correction", "error", "residual", "fine", "fine captured", "below", "above")
    parts = (
        (refocused - captured) ** 2,
        outputs.error[0] ** 2,
        left**2,
        detail(refocused) ** 2,
        detail(captured) ** 2,
        _excess(-0.02 - refocused) ** 2,
        _excess(refocused - 1.2) ** 2,
    )
    energy = dict(zip(names, over_maps(parts, tiles), strict=True))
    energy |= {"noise": noise2, "contrast": np.maximum(contrast2, 0)}
    domain = familiar.distance(outputs.features, tiles)
    middle = _middle(captured)
    spread = float(np.sqrt(np.sum(weight * (distance - np.sum(weight * distance)) ** 2)))
    told = {"distance": distance, "sigma": sigma, "domain": domain}
    told |= {"side certainty": np.abs(2 * side - 1), "aberration": aberration}
    columns = _columns(energy, told, middle, spread)
    whole: dict[str, Any] = {name: np.mean(part) for name, part in energy.items()}
    of_frame = {name: np.sum(weight * part) for name, part in told.items()}
    frame = _columns(whole, of_frame, middle, spread)
    consistency = float(np.sqrt(whole["residual"] / np.maximum(whole["noise"], FLOOR**2)))
    return Evidence(
        columns, frame, distance, sigma, side, weight, consistency, float(of_frame["domain"])
    )


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
        told["side certainty"],
        told["aberration"],
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

    def distance(self, features: Array, tiles: tuple[int, int]) -> NDArray[np.float32]:
        """Give ``(h, w)`` distances from the mean, 1 at the edge of the training set."""
        pooled = pooled_features(features, tiles)
        components = (pooled - self._mean) @ self._basis
        return np.asarray(np.sqrt(np.mean(components**2, -1)) / self._radius, dtype=np.float32)


def pooled_features(features: Array, tiles: tuple[int, int]) -> NDArray[np.float32]:
    """Bring ``(C, h', w')`` features to a number per tile, ``(h, w, C)``."""
    pooled = np.moveaxis(on_host(over_tiles(features, tiles)), 0, -1)
    return np.log1p(np.maximum(pooled, 0))


def on_host(part: Array) -> NDArray[np.float32]:
    """Bring numbers from wherever they are to NumPy."""
    return np.asarray(to_device(part, "cpu"), dtype=np.float32)


def over_maps(parts: tuple[Array, ...], tiles: tuple[int, int]) -> NDArray[np.float32]:
    """Average several ``(H', W')``, of whatever sizes, over tiles, and bring them over at once."""
    xp = array_namespace(*parts)
    rows = [_averaged(part, -2, tiles[0]) for part in parts]
    if len({row.shape for row in rows}) == 1:  # all at once: a call costs more than the sums
        return on_host(_averaged(xp.stack(rows), -1, tiles[1]))
    return on_host(xp.stack([_averaged(row, -1, tiles[1]) for row in rows]))


def _excess(over: Array) -> Array:
    xp = array_namespace(over)
    return xp.where(over > 0, over, 0.0)


def _middle(pixels: Array) -> float:
    """Give the median of every fourth pixel of every fourth row."""
    xp = array_namespace(pixels)
    some = xp.sort(xp.reshape(pixels[::4, ::4], (-1,)))
    return float(some[some.shape[0] // 2])


def over_tiles(part: Array, tiles: tuple[int, int]) -> Array:
    """Average ``(..., H', W')`` over tiles, the last ones being smaller, to ``(..., h, w)``."""
    for axis, number in zip((-2, -1), tiles, strict=True):
        part = _averaged(part, axis, number)
    return part


def _averaged(part: Array, axis: int, number: int) -> Array:
    """Average along one axis."""
    xp = array_namespace(part)
    step = _step(part.shape[axis], number)
    whole = part.shape[axis] // step

    def cut(begin: int, end: int | None) -> Array:
        return part[..., begin:end, :] if axis == -2 else part[..., begin:end]

    shape = list(part.shape)
    shape[axis:] = [whole, step, *shape[len(shape) + axis + 1 :]]
    means = xp.sum(xp.reshape(cut(0, whole * step), tuple(shape)), axis=axis) / step
    if whole == number:
        return means
    return xp.concat([means, xp.mean(cut(whole * step, None), axis=axis, keepdims=True)], axis=axis)


def _step(length: int, number: int) -> int:
    """Pixels of a part per tile; the part is a power of two smaller than the frame."""
    step = 1
    while -(-length // step) > number:
        step *= 2
    return step


def halved(pixels: Array) -> Array:
    """Average 2 × 2 pixels."""
    rows = pixels[::2] + pixels[1::2]
    return (rows[:, ::2] + rows[:, 1::2]) * 0.25


def noise_energy(pixels: Array) -> Array:
    """Estimate the variance of the camera's noise, at a quarter of the pixels.

    From differences that a smooth picture does not have (Immerkær, Comput. Vis. Image Underst.
    64:300, 1996), taken between the four pixels of a square, so each pixel is used once.
    """
    rows = pixels[::2] - pixels[1::2]
    odd = rows[:, ::2] - rows[:, 1::2]
    return odd * odd * 0.25


def detail(pixels: Array) -> Array:
    """Differences of neighbours along both axes, added."""
    xp = array_namespace(pixels)
    change = xp.zeros_like(pixels)
    change[:-1] += xp.abs(pixels[1:] - pixels[:-1])
    change[:, :-1] += xp.abs(pixels[:, 1:] - pixels[:, :-1])
    return change
