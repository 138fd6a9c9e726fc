"""What a run on every objective trains on, batch by batch."""

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from refocus.configs.training import TrainConfig
from refocus.training.pairs.batched import BatchedPairs, Measured
from refocus.training.pairs.data import folder_fields
from refocus.training.pairs.light_paths import draw_light_paths
from refocus.training.pairs.pool import grow_tiles, open_tiles


def open_pairs(config: TrainConfig, measured: bool = True, device: str = "cpu") -> BatchedPairs:
    """Draw and read all that a run on every objective draws from.

    Parameters
    ----------
    config
        The run, with ``simulation.objectives``.
    measured
        Whether its measured pairs are wanted.
    device
        Of PyTorch, which simulates.

    Raises
    ------
    RefocusError
        Some of its data cannot be used; the message names the file.
    """
    simulation = config.simulation
    assert simulation is not None
    assert simulation.objectives is not None
    kinds = ["phase"] * max(16, simulation.synthetic // 12)
    return BatchedPairs(
        simulation.objectives,
        draw_light_paths(simulation.objectives, config.seed),
        open_tiles(simulation, config.seed),
        _measured(config) if measured else None,
        np.stack(grow_tiles(kinds if simulation.foreign_fraction else kinds[:1], config.seed)),
        config.seed,
        device,
    )


class TrainingBatches(Dataset[dict[str, Tensor]]):
    """Everything a run on every objective trains on; batch ``step`` is always the same.

    Parameters
    ----------
    config
        The run, with ``simulation.objectives``.

    Raises
    ------
    RefocusError
        Some of its data cannot be used; the message names the file.
    """

    def __init__(self, config: TrainConfig) -> None:
        simulation = config.simulation
        assert simulation is not None
        self._config = config
        self._foreign = simulation.foreign_fraction
        # a worker's process has no way to the GPU, and needs none where its cores are idle
        on_gpu = torch.cuda.is_available() and not config.workers
        self._pairs = open_pairs(config, device="cuda" if on_gpu else "cpu")
        self._measured = sum(m.fraction for m in config.measured)
        self._larger_from = config.steps
        if config.final_size is not None:
            self._larger_from = round(config.steps * (1 - config.final_part))

    def __len__(self) -> int:
        return self._config.steps

    def __getitem__(self, step: int) -> dict[str, Tensor]:
        """Make the batch of a step; a larger one of larger pairs has fewer of them."""
        size, number = self._config.size, self._config.batch
        if step >= self._larger_from and self._config.final_size is not None:
            number = max(2, round(number * (size / self._config.final_size) ** 2))
            size = self._config.final_size
        with torch.no_grad():
            made = self._pairs.batch(step, number, size, self._measured, self._foreign)
        return made._asdict()


def _measured(config: TrainConfig) -> Measured | None:
    """Read the measured pairs of a run, those of one size."""
    fields = [field.read() for source in config.measured for field in folder_fields(source)]
    if not fields:
        return None
    shape = tuple(min(pair[0].shape[axis] for pair in fields) for axis in (0, 1))
    cut = [[part[: shape[0], : shape[1]].astype(np.float32) for part in pair] for pair in fields]
    return Measured(np.stack([c[0] for c in cut]), np.stack([c[1] for c in cut]))
