"""What speaks for and against a refocused frame, measured per tile and for the whole frame.

Four witnesses: what the network says of itself (distance, expected error), whether its result
explains what the camera saw when it is blurred again, whether it has met such a specimen, and how
coarse the specimen and the result are.

Whole frames are measured where the network left them, by whatever array library holds them there
(the array API standard, https://data-apis.org/array-api), and nothing waits for the device: a CUDA
graph can hold all of it. A few numbers per tile come to NumPy.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from array_api_compat import array_namespace, device
from numpy.typing import NDArray

from refocus.configs.trust import TrustStatistics
from refocus.engine.light_path.filters import Likely, tables
from refocus.engine.trust.reblur import Reblur
from refocus.engine.trust.tiles import (
    OCTAVES,
    Array,
    at_least,
    detail,
    halved,
    noise_energy,
    octaves,
    on_host,
    over_maps,
    over_tiles,
    tiles_of,
)

FLOOR = 1e-4
"""Smallest amount that counts, network units: under a count of any camera."""

COARSENESS = tuple(f"{which} at {n} px" for which in ("captured", "refocused") for n in OCTAVES)
"""Energy of the captured and of the refocused frame, octave by octave."""
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
    "second chance",
    *COARSENESS,
)
"""The evidence, in its order; coarseness of the captured frame over its contrast, and of the
refocused one over that of the captured."""


ENERGIES = (
    "noise",
    "correction",
    "error",
    "residual",
    "fine",
    "fine captured",
    "below",
    "above",
    *COARSENESS,
)
MAPS = ("distance", "sigma", "side", "aberration", "mean", "square", *ENERGIES, "domain", "middle")
"""What is measured of each tile, in its order."""


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
    likely: Likely | None = None,
) -> Evidence:
    """Measure the evidence on a frame, and wait for it; see :func:`measure`.

    ``likely`` are the light paths that its network was shown it for; None where there were none.
    """
    captured, noise, through = halved(seen), noise_energy(seen), through_of(seen, likely)
    maps = measure(captured, noise, outputs, reblur, familiar, tiles_of(seen), through)
    return evidence_of(on_host(maps), likely)


def through_of(seen: Array, likely: Likely | None) -> Array | None:
    """Give the transfer functions in focus and as believed, ``(2, STEPS)``, beside a frame."""
    if likely is None:
        return None
    return array_namespace(seen).asarray(tables(likely)[:2], device=device(seen))


def measure(  # noqa: PLR0917
    captured: Array,
    noise: Array,
    outputs: NetworkOutputs,
    reblur: Reblur,
    familiar: "Familiar",
    tiles: tuple[int, int],
    through: Array | None = None,
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
    through
        Transfer functions, ``(2, STEPS)``, that its network was shown the frame for: in focus and
        as believed. None where it was shown none: it claims a distance, and the optics are its own.

    Returns
    -------
    array
        ``(len(MAPS), *tiles)``, where the frame is.
    """
    xp = array_namespace(captured)
    refocused = halved(outputs.refocused)
    focus = over_tiles(outputs.focus, tiles)
    mean, square, noise2 = some = over_maps((captured, captured**2, noise * 0.25), tiles)
    if through is None:
        left = reblur.residual(captured, refocused, focus[0], _weight(mean, square, noise2))
    else:
        left = reblur.residual_through(captured, refocused, through)
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
    coarse = octaves(captured, tiles), octaves(refocused, tiles)
    return xp.concat([focus, some, over_maps(parts, tiles), *coarse, last])


def evidence_of(maps: NDArray[np.float32], likely: Likely | None = None) -> Evidence:
    """Make evidence of what :func:`measure` gave, on the host, and of its light paths."""
    chances = (1.0, 0.0) if likely is None else likely.chances
    told = dict(zip(MAPS, maps, strict=True))
    distance, sigma, side = told["distance"], told["sigma"], told["side"]
    weight = _weight(told["mean"], told["square"], told["noise"])
    energy = {name: told[name] for name in ENERGIES}
    energy["contrast"] = np.maximum(told["square"] - told["mean"] ** 2, 0)
    middle = float(told["middle"].flat[0])
    spread = float(np.sqrt(np.sum(weight * (distance - np.sum(weight * distance)) ** 2)))
    said = {name: told[name] for name in ("distance", "sigma", "domain", "aberration")}
    said["side certainty"] = np.abs(2 * side - 1)
    columns = _columns(energy, said, middle, spread, chances)
    whole: dict[str, Any] = {name: np.mean(part) for name, part in energy.items()}
    of_frame = {name: np.sum(weight * part) for name, part in said.items()}
    frame = _columns(whole, of_frame, middle, spread, chances)
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
    energy: dict[str, Any],
    told: dict[str, Any],
    middle: float,
    spread: float,
    chances: tuple[float, float],
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
        *(np.full_like(told["distance"], chance) for chance in chances),
        *(log[f"captured at {n} px"] - log["contrast"] for n in OCTAVES),
        *(log[f"refocused at {n} px"] - log[f"captured at {n} px"] for n in OCTAVES),
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


def _middle(pixels: Array) -> Array:
    """Give the median of every fourth pixel of every fourth row."""
    xp = array_namespace(pixels)
    some = xp.sort(xp.reshape(pixels[::4, ::4], (-1,)))
    return some[some.shape[0] // 2]
