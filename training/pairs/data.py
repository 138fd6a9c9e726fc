"""Examples for training: measured pairs, simulated pairs, and the mix of both."""

import copy
from functools import partial

import numpy as np
import torch
from torch.utils.data import Dataset

from refocus.configs import RefocusError
from refocus.configs.training import MeasuredConfig, TrainConfig
from refocus.optics.images import list_images
from refocus.training.pairs import bbbc006, stacks
from refocus.training.pairs.measured import MeasuredField, MeasuredPairs, read_pair
from refocus.training.pairs.pool import open_specimens
from refocus.training.pairs.simulate import SimulatedPairs
from refocus.training.pairs.split import choose, deal
from refocus.training.pairs.wells import well

Source = MeasuredPairs | SimulatedPairs


def folder_fields(config: MeasuredConfig) -> list[MeasuredField]:
    """List the fields of two folders that hold the same file names, without the held-out wells.

    Raises
    ------
    RefocusError
        A folder is missing or empty or not as the run had it, or every well is held out.
    """
    kept = choose(list_images(config.out_of_focus), config, well)
    if not kept:
        raise RefocusError(
            f"{config.out_of_focus}: holds one well, which is held out; set 'held_out: null'"
        )
    distance = np.nan if config.distance_um is None else config.distance_um
    side = np.nan if config.side is None else float(config.side == "positive")
    return [
        MeasuredField(str(f), partial(read_pair, f, config.in_focus / f.name), distance, side)
        for f in kept
    ]


def with_split(config: TrainConfig) -> TrainConfig:
    """Deal the files of a run into those trained on and those held out, unless that is done.

    Raises
    ------
    RefocusError
        A folder is missing or empty.
    """
    measured = [
        m.model_copy(update={"dealt": m.dealt or deal(list_images(m.out_of_focus), m, well)})
        for m in config.measured
    ]
    dealt = [stacks.dealt_stacks(s) for s in config.stacks]
    return config.model_copy(update={"measured": measured, "stacks": dealt})


def training_fields(config: TrainConfig) -> list[MeasuredField]:
    """List all measured fields that a run trains on.

    Raises
    ------
    RefocusError
        Some cannot be found.
    """
    return [field for fields, _ in _measured(config) for field in fields]


def _measured(config: TrainConfig) -> list[tuple[list[MeasuredField], float]]:
    """Give the measured fields of a run, source by source, with the fraction of examples."""
    found = [(folder_fields(m), m.fraction) for m in config.measured]
    if config.bbbc006 is not None:
        found.append((bbbc006.training_fields(config.bbbc006), config.bbbc006.fraction))
    found += [(stacks.training_fields(s), s.fraction) for s in config.stacks]
    return found


class TrainingPairs(Dataset[dict[str, torch.Tensor]]):
    """Everything a run trains on; example ``i`` is always the same.

    Parameters
    ----------
    config
        The run.

    Raises
    ------
    RefocusError
        Some of its data cannot be used; the message names the file.

    Attributes
    ----------
    distances_um
        How far the measured fields are from focus, where that is known.
    """

    def __init__(self, config: TrainConfig) -> None:
        self.distances_um: list[float] = []
        self._seed = config.seed
        self._length = config.steps * config.batch
        self._sources: list[Source] = []
        self._weights: list[float] = []
        self._add_measured(config)
        if config.simulation is not None:
            specimens = open_specimens(config.simulation, config.seed)
            pairs = SimulatedPairs(specimens, config.simulation, config.size, config.seed)
            self._sources.append(pairs)
            self._weights.append(max(0.0, 1.0 - sum(self._weights)))
        self._final, self._final_from = self._sources, self._length
        if config.final_size is not None:
            self._final = [_resized(source, config.final_size) for source in self._sources]
            self._final_from = round(config.steps * (1 - config.final_part)) * config.batch

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, number: int) -> dict[str, torch.Tensor]:
        """Make example ``number``, as tensors; those past the end are for looking at."""
        rng = np.random.default_rng([self._seed, 3, number])
        weights = np.array(self._weights)
        sources = self._final if number >= self._final_from else self._sources
        source = sources[rng.choice(len(weights), p=weights / weights.sum())]
        pair = source[number]
        return {name: torch.as_tensor(value) for name, value in pair._asdict().items()}

    def _add_measured(self, config: TrainConfig) -> None:
        largest = max(config.size, config.final_size or 0)
        for fields, fraction in _measured(config):
            # fields are checked against the largest size that will be cut from them
            source = MeasuredPairs(fields, largest, config.seed)
            self._sources.append(_resized(source, config.size))
            self._weights.append(fraction)
            self.distances_um += [f.distance_um for f in fields if np.isfinite(f.distance_um)]


def _resized(source: Source, size: int) -> Source:
    """Give the same source, cutting windows of another size."""
    other = copy.copy(source)
    other.size = size
    return other
