"""What simulated pairs are pictures of: sharp images, and synthetic fields."""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from refocus.configs import BBBC006, RefocusError
from refocus.configs.training import SimulationConfig, SpecimensConfig
from refocus.optics.focus import tenengrad
from refocus.optics.images import SUFFIXES, list_images, read_image
from refocus.optics.phase import phase_contrast
from refocus.optics.specimens import GENERATORS
from refocus.training.pairs.wells import fold_of, well

Field = NDArray[np.float32]

NO_SPECIMEN = (
    "simulation: there is no specimen; give 'specimens' a folder of sharp images, or 'synthetic' a "
    "number"
)


class Specimens:
    """Fields in focus, background 0 and brightest 1, in groups that are drawn by weight.

    Parameters
    ----------
    groups
        Fields ``(h, w)`` of any size, and how often one of them is drawn.
    """

    def __init__(self, groups: Sequence[tuple[Sequence[Field], float]]) -> None:
        kept = [(fields, weight) for fields, weight in groups if fields and weight > 0]
        if not kept:
            raise RefocusError(NO_SPECIMEN)
        self._groups = [fields for fields, _ in kept]
        weights = np.array([weight for _, weight in kept])
        self._edges = np.cumsum(weights / weights.sum())

    def draw(self, rng: np.random.Generator) -> Field:
        """Take a field by the weights of the groups."""
        fields = self._groups[0]
        if len(self._groups) > 1:
            place = int(np.searchsorted(self._edges, rng.random(), side="right"))
            fields = self._groups[min(place, len(self._groups) - 1)]
        return fields[int(rng.integers(len(fields)))]


def open_specimens(config: SimulationConfig, seed: int) -> Specimens:
    """Read and grow all that a simulation looks at.

    Raises
    ------
    RefocusError
        A folder is missing or holds nothing to use, or a kind is not known.
    """
    _check_kinds(config)
    groups = [(load_specimens(s), s.weight) for s in config.specimens]
    grown = grow_specimens(config.kinds, config.synthetic, config.synthetic_size, seed)
    return Specimens([*groups, (grown, config.synthetic_weight)])


def load_specimens(config: SpecimensConfig) -> list[Field]:
    """Read every sharp image below a folder as a specimen, the wells held out left aside.

    Raises
    ------
    RefocusError
        The folder is missing, or none of its images can be a specimen.
    """
    folder = config.folder
    folders = [folder, *sorted(p for p in folder.rglob("*") if p.is_dir())]
    with_images = [d for d in folders if any(p.suffix.lower() in SUFFIXES for p in d.glob("[!.]*"))]
    files = [f for d in with_images or [folder] for f in list_images(d)]
    if config.held_out is not None:
        fold = fold_of([well(f) for f in files], config.folds)
        files = [f for f in files if fold[well(f)] != config.held_out]
    fields, sharpness = [], []
    for file in files:
        pixels = read_image(file).astype(np.float32)
        low, high = np.percentile(pixels, (1, 99.9))
        if high > low:
            sharpness.append(tenengrad(pixels))
            fields.append(np.asarray((pixels - low) / (high - low), dtype=np.float32))
    if not fields:
        raise RefocusError(f"{folder}: holds no image that could be a specimen")
    threshold = np.quantile(sharpness, 1 - config.sharpest)
    return [f for f, s in zip(fields, sharpness, strict=True) if s >= threshold]


def grow_specimens(kinds: dict[str, float], count: int, size: int, seed: int) -> list[Field]:
    """Draw ``count`` synthetic fields of ``(size, size)``, by the weights of their kinds."""
    names = list(kinds)
    weights = np.array([kinds[n] for n in names])
    fields = []
    for i in range(count):
        rng = np.random.default_rng([seed, i])
        name = names[rng.choice(len(names), p=weights / weights.sum())]
        fields.append(GENERATORS[name]((size, size), rng))
    return fields


def _check_kinds(config: SimulationConfig) -> None:
    if unknown := config.kinds.keys() - GENERATORS.keys():
        raise RefocusError(
            f"simulation: kinds: {min(unknown)!r} is not known; allowed: {', '.join(GENERATORS)}"
        )


TILE = 320
"""Side of a specimen of a batched simulation, pixels."""
BRIGHTEST = 6.0
TILES_OF_A_FIELD = 12
LEAST_CONTRAST = 0.03


class SpecimenTiles(NamedTuple):
    """Specimens of one size, for simulation in batches.

    Attributes
    ----------
    fields
        ``(N, 320, 320)`` ``float16``, background 0 and brightest about 1.
    weights
        ``(N,)`` ``float32``, how often each is drawn.
    real
        ``(N,)`` ``bool``: a microscope's image, blurred by its optics already.
    """

    fields: NDArray[np.float16]
    weights: NDArray[np.float32]
    real: NDArray[np.bool_]


def open_tiles(config: SimulationConfig, seed: int) -> SpecimenTiles:
    """Read and grow, by all cores, all that a batched simulation looks at.

    Raises
    ------
    RefocusError
        A folder is missing or holds nothing to use, or a kind is not known.
    """
    _check_kinds(config)
    rng = np.random.default_rng([seed, 4])
    names = list(config.kinds)
    weights = np.array([config.kinds[n] for n in names])
    kinds = [names[i] for i in rng.choice(len(names), config.synthetic, p=weights / weights.sum())]
    grown = grow_tiles(kinds, seed)
    groups = [(grown, config.synthetic_weight, False)]
    for folder in config.specimens:
        cut = [tile for field in load_specimens(folder) for tile in _cut_tiles(field, rng)]
        groups.append((cut, folder.weight, True))
    kept = [(tiles, weight, real) for tiles, weight, real in groups if tiles and weight > 0]
    if not kept:
        raise RefocusError(NO_SPECIMEN)
    return SpecimenTiles(
        np.stack([tile for tiles, _, _ in kept for tile in tiles]),
        np.concatenate([np.full(len(t), w / len(t), np.float32) for t, w, _ in kept]),
        np.concatenate([np.full(len(t), real) for t, _, real in kept]),
    )


def grow_tiles(kinds: Sequence[str], seed: int) -> list[NDArray[np.float16]]:
    """Draw a synthetic field ``(320, 320)`` of each kind; ``phase`` is one of phase contrast."""
    jobs = [(kind, seed, number) for number, kind in enumerate(kinds)]
    with ProcessPoolExecutor(os.cpu_count(), get_context("spawn")) as cores:
        return list(cores.map(_grown, jobs, chunksize=16))


def _grown(job: tuple[str, int, int]) -> NDArray[np.float16]:
    kind, seed, number = job
    rng = np.random.default_rng([seed, 5, number])
    if kind == "phase":
        distance = rng.uniform(0.3, 36.0) * rng.choice([-1.0, 1.0])
        return phase_contrast((TILE, TILE), rng, BBBC006, distance).astype(np.float16)
    field = np.nan_to_num(GENERATORS[kind]((TILE, TILE), rng))
    return np.clip(field, 0, BRIGHTEST).astype(np.float16)


def _cut_tiles(field: Field, rng: np.random.Generator) -> Iterator[NDArray[np.float16]]:
    """Take windows of a sharp image, those with something to see."""
    short = [(0, max(0, TILE - n)) for n in field.shape]
    field = np.pad(np.clip(field, 0, BRIGHTEST), short, mode="symmetric")
    for _ in range(min(TILES_OF_A_FIELD, 1 + 2 * field.size // TILE**2)):
        top, left = (int(rng.integers(0, n - TILE + 1)) for n in field.shape)
        tile = field[top : top + TILE, left : left + TILE]
        if tile.std() > LEAST_CONTRAST:
            yield tile.astype(np.float16)
