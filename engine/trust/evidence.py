"""What speaks for and against a refocused frame, measured per tile and for the whole frame.

Three witnesses: what the network says of itself (distance, expected error), whether its result
explains what the camera saw when it is blurred again, and whether it has met such a specimen.

Whole frames are measured where the network left them, by whatever array library holds them there
(the array API standard, https://data-apis.org/array-api), and nothing waits for the device: a CUDA
graph can hold all of it. A few numbers per tile come to NumPy.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from array_api_compat import array_namespace, device, to_device
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
    "certainty",
)
"""The evidence, in its order."""


MAPS = (
    "distance",
    "sigma",
    "side",
    "aberration",
    "mean",
    "square",
    "noise",
    "correction",
    "error",
    "residual",
    "fine",
    "fine captured",
    "below",
    "above",
    "domain",
    "middle",
)
"""What is measured of each tile, in its order."""
ENERGIES = MAPS[6:14]

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


def gather(
    seen: Array,
    outputs: NetworkOutputs,
    reblur: Reblur,
    familiar: "Familiar",
    certainty: float = 1.0,
) -> Evidence:
    """Measure the evidence on a frame, and wait for it; see :func:`measure`."""
    captured, noise = halved(seen), noise_energy(seen)
    maps = measure(captured, noise, outputs, reblur, familiar, tiles_of(seen))
    return evidence_of(on_host(maps), certainty)


def tiles_of(seen: Array) -> tuple[int, int]:
    """Count the tiles of a frame ``(H, W)``, down and along."""
    height, width = (-(-n // TILE) for n in seen.shape)
    return height, width


def measure(  # noqa: PLR0917
    captured: Array,
    noise: Array,
    outputs: NetworkOutputs,
    reblur: Reblur,
    familiar: "Familiar",
    tiles: tuple[int, int],
) -> Array:
    """Measure what there is to measure on a frame, without waiting for its device.

    Parameters
    ----------
    captured, noise
        The captured frame :func:`halved`, and its :func:`noise_energy`, network units.
    outputs
        What the network made of it.
    reblur
        The model's optics.
    familiar
        What the training set looks like to the encoder.
    tiles
        How many there are, down and along.

    Returns
    -------
    array
        ``(len(MAPS), *tiles)``, where the frame is.
    """
    xp = array_namespace(captured)
    refocused = halved(outputs.refocused)
    focus = over_tiles(outputs.focus, tiles)
    mean, square, noise2 = some = over_maps((captured, captured**2, noise * 0.25), tiles)
    left = reblur.residual(captured, refocused, focus[0], _weight(mean, square, noise2))
    parts = (
        (refocused - captured) ** 2,
        outputs.error[0] ** 2,
        left**2,
        detail(refocused) ** 2,
        detail(captured) ** 2,
        at_least(-0.02 - refocused, 0.0) ** 2,
        at_least(refocused - 1.2, 0.0) ** 2,
    )
    domain = familiar.distance(outputs.features, tiles)
    last = xp.stack([domain, xp.broadcast_to(_middle(captured), tiles)])
    return xp.concat([focus, some, over_maps(parts, tiles), last])


def evidence_of(maps: NDArray[np.float32], certainty: float = 1.0) -> Evidence:
    """Make evidence of what :func:`measure` gave, on the host."""
    told = dict(zip(MAPS, maps, strict=True))
    distance, sigma, side = told["distance"], told["sigma"], told["side"]
    weight = _weight(told["mean"], told["square"], told["noise"])
    energy = {name: told[name] for name in ENERGIES}
    energy["contrast"] = np.maximum(told["square"] - told["mean"] ** 2, 0)
    middle = float(told["middle"].flat[0])
    spread = float(np.sqrt(np.sum(weight * (distance - np.sum(weight * distance)) ** 2)))
    said = {name: told[name] for name in ("distance", "sigma", "domain", "aberration")}
    said["side certainty"] = np.abs(2 * side - 1)
    columns = _columns(energy, said, middle, spread, certainty)
    whole: dict[str, Any] = {name: np.mean(part) for name, part in energy.items()}
    of_frame = {name: np.sum(weight * part) for name, part in said.items()}
    frame = _columns(whole, of_frame, middle, spread, certainty)
    consistency = float(np.sqrt(whole["residual"] / np.maximum(whole["noise"], FLOOR**2)))
    return Evidence(
        columns, frame, distance, sigma, side, weight, consistency, float(of_frame["domain"])
    )


def _weight(mean: Array, square: Array, noise2: Array) -> Array:
    """Say how much there is to see in each tile: contrast beyond the noise."""
    xp = array_namespace(mean)
    weight = at_least(square - mean**2 - noise2, FLOOR**2)
    return weight / xp.sum(weight)


def _columns(
    energy: dict[str, Any], told: dict[str, Any], middle: float, spread: float, certainty: float
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
        np.full_like(told["distance"], certainty),
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
        self._there: dict[Any, tuple[Array, Array]] = {}

    def distance(self, features: Array, tiles: tuple[int, int]) -> Array:
        """Give ``(h, w)`` distances from the mean, 1 at the edge of the training set.

        Raises
        ------
        ValueError
            The features are of another network.
        """
        if features.shape[0] != self._mean.size:
            raise ValueError(f"{features.shape[0]} features, and {self._mean.size} are known")
        xp, place = array_namespace(features), device(features)
        if place not in self._there:  # brought over once
            both = (xp.asarray(part, device=place) for part in (self._mean, self._basis))
            self._there[place] = tuple(both)
        mean, basis = self._there[place]
        components = (pooled_features(features, tiles) - mean) @ basis
        return xp.sqrt(xp.mean(components**2, axis=-1)) / self._radius


def pooled_features(features: Array, tiles: tuple[int, int]) -> Array:
    """Bring ``(C, h', w')`` features to a number per tile, ``(h, w, C)``."""
    xp = array_namespace(features)
    pooled = xp.moveaxis(over_tiles(features, tiles), 0, -1)
    return xp.log1p(at_least(pooled, 0.0))


def on_host(part: Array) -> NDArray[np.float32]:
    """Bring numbers from wherever they are to NumPy."""
    return np.asarray(to_device(part, "cpu"), dtype=np.float32)


def over_maps(parts: tuple[Array, ...], tiles: tuple[int, int]) -> Array:
    """Average several ``(H', W')``, of whatever sizes, over tiles."""
    xp = array_namespace(*parts)
    rows = [_averaged(part, -2, tiles[0]) for part in parts]
    if len({row.shape for row in rows}) == 1:  # all at once: a call costs more than the sums
        return _averaged(xp.stack(rows), -1, tiles[1])
    return xp.stack([_averaged(row, -1, tiles[1]) for row in rows])


def at_least(values: Array, least: float) -> Array:
    """Raise what is less; NaN stays. ``clip`` of some array libraries waits for the device."""
    xp = array_namespace(values)
    return xp.where(values < least, least, values)


def _middle(pixels: Array) -> Array:
    """Give the median of every fourth pixel of every fourth row."""
    xp = array_namespace(pixels)
    some = xp.sort(xp.reshape(pixels[::4, ::4], (-1,)))
    return some[some.shape[0] // 2]


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
