"""What simulated pairs are pictures of: sharp images, and synthetic fields."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from refocus.configs import RefocusError
from refocus.configs.training import SimulationConfig, SpecimensConfig
from refocus.optics.focus import tenengrad
from refocus.optics.images import list_images, read_image
from refocus.optics.specimens import GENERATORS
from refocus.training.pairs.wells import fold_of, well

Field = NDArray[np.float32]


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
            raise RefocusError(
                "simulation: there is no specimen; give 'specimens' a folder of sharp images, or "
                "'synthetic' a number"
            )
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
        A folder is missing or holds nothing to use.
    """
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
    with_files = [d for d in folders if not d.is_dir() or any(p.is_file() for p in d.iterdir())]
    files = [f for d in with_files for f in list_images(d)]
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
