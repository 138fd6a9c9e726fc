"""Teaching the estimator of the light path: which blur a power spectrum shows."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from refocus.configs import RefocusError
from refocus.configs.files import replacing
from refocus.configs.training import TrainConfig
from refocus.engine.light_path.estimate import (
    ABERRATIONS,
    INPUTS,
    OUTPUTS,
    RADII,
    SAMPLINGS,
    EstimatorWeights,
    described,
)
from refocus.engine.light_path.spectrum import SIDE, spectra
from refocus.optics.transfer import paraxial
from refocus.training.pairs.batched import BatchedPairs
from refocus.training.pairs.batches import open_pairs

HIDDEN = 384
AT_ONCE = 64
BATCH = 256
EPOCHS = 64
RATE = 2e-3
TOLD = 0.6
"""Fraction of the examples whose optics are told."""
NOISE = 0.01
"""Added to the logarithms of power, so that none is learned by heart."""
SAMPLING_WEIGHT = 0.3
SEEN, RARE = 0.2, 1e-4
"""How far what is known of light paths from the simulation alone is taken off again: by all of it,
what was seldom seen would seem likely. And how seldom one is seen and still learned."""
CELLS = RADII.size * ABERRATIONS.size

Told = Callable[[int, int], None]


def fit_estimator(
    config: TrainConfig, examples: int = 64_000, told: Told | None = None
) -> EstimatorWeights:
    """Teach an estimator the light paths that a run simulates.

    Parameters
    ----------
    config
        The run, with ``simulation.objectives``.
    examples
        How many windows it sees.
    told
        Told how many have been simulated, and of how many.

    Returns
    -------
    EstimatorWeights
        To be carried by the model file.

    Raises
    ------
    RefocusError
        The run does not simulate every objective, or some of its data cannot be used.
    """
    if config.simulation is None or config.simulation.objectives is None:
        raise RefocusError(
            f"{config.name}: does not simulate 'objectives', so there is no light path to "
            "estimate; give a run that does, as any-objective-base"
        )
    torch.manual_seed(config.seed)
    found, blurs = _simulated(open_pairs(config, measured=False), examples, told)
    return EstimatorWeights.pack(_fitted(torch.from_numpy(found), torch.from_numpy(blurs)))


def _simulated(
    pairs: BatchedPairs, number: int, told: Told | None
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Give the spectra of windows ``(N, BINS)`` and the light path of each ``(N, 4)``."""
    found, blurs = [], []
    steps = math.ceil(number / AT_ONCE)
    for step in range(steps):
        with torch.inference_mode():
            seen, paths = pairs.spectra(step, AT_ONCE, SIDE)
        found += [spectra(frame)[0] for frame in seen.cpu().numpy()]
        blurs.append(paths.cpu().numpy())
        if told is not None:
            told(step + 1, steps)
    return np.concatenate(found), np.concatenate(blurs)


def _fitted(found: Tensor, blurs: Tensor) -> list[NDArray[np.float32]]:
    """Fit the network; layers ``(inputs + 1, outputs)``, the last row being the bias."""
    sampling, aperture, radius, spherical = blurs.T
    spherical = torch.where(radius < 0, -spherical, spherical)
    narrow = torch.tensor([paraxial(float(a)) for a in aperture])
    radii = _shared(radius.abs() * narrow, RADII)
    waves = _shared(spherical, ABERRATIONS)
    cells = (radii[:, :, None] * waves[:, None, :]).flatten(1)
    samplings = _shared(sampling.log(), np.log(SAMPLINGS))
    inputs = torch.from_numpy(described(found.numpy(), 0.0, 0.0))
    optics = torch.stack([sampling.log(), aperture.log(), torch.ones(len(blurs))], 1)
    network = nn.Sequential(
        nn.Linear(INPUTS, HIDDEN),
        nn.ReLU(),
        nn.Dropout(0.05),
        nn.Linear(HIDDEN, HIDDEN),
        nn.ReLU(),
        nn.Dropout(0.05),
        nn.Linear(HIDDEN, HIDDEN),
        nn.ReLU(),
        nn.Linear(HIDDEN, OUTPUTS),
    )
    optimizer = torch.optim.AdamW(network.parameters(), lr=RATE, weight_decay=1e-2)
    steps = max(1, EPOCHS * len(found) // BATCH)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        some = torch.randint(len(found), (BATCH,))
        x = inputs[some]
        x[:, : found.shape[1]] += NOISE * torch.randn(BATCH, found.shape[1])
        x[:, found.shape[1] :] = optics[some] * (torch.rand(BATCH, 1) < TOLD)
        outputs = network(x)
        loss = _crossed(outputs[:, :CELLS], cells[some])
        loss = loss + SAMPLING_WEIGHT * _crossed(outputs[:, CELLS:], samplings[some])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    layers = [layer for layer in network if isinstance(layer, nn.Linear)]
    with torch.no_grad():
        often = torch.cat([cells.mean(0), samplings.mean(0)]) + RARE
        layers[-1].bias.sub_(SEEN * torch.log(often))
    return [torch.cat([x.weight.T, x.bias[None]]).detach().numpy() for x in layers]


def _crossed(logits: Tensor, wanted: Tensor) -> Tensor:
    return -(wanted * torch.log_softmax(logits, 1)).sum(1).mean()


def _shared(values: Tensor, grid: NDArray[np.float64]) -> Tensor:
    """Share each value between the two places of the grid that it lies between, ``(N, G)``."""
    places = torch.from_numpy(grid.astype(np.float32))
    values = values.clamp(places[0], places[-1]).contiguous()
    right = torch.searchsorted(places, values, right=True).clamp(1, len(places) - 1)
    part = (values - places[right - 1]) / (places[right] - places[right - 1])
    shares = torch.zeros(len(values), len(places))
    rows = torch.arange(len(values))
    shares[rows, right - 1] = 1 - part
    shares[rows, right] = part
    return shares


def write_estimator(weights: EstimatorWeights, path: Path) -> None:
    """Write an estimator to a file of JSON, at once."""
    with replacing(path) as part:
        part.write_text(weights.model_dump_json(), encoding="utf-8")


def read_estimator(path: Path) -> EstimatorWeights:
    """Read an estimator.

    Raises
    ------
    RefocusError
        The file is missing, or holds none.
    """
    try:
        weights = EstimatorWeights.model_validate_json(path.read_text(encoding="utf-8"))
        weights.unpack()
    except FileNotFoundError as error:
        raise RefocusError(
            f"{path}: no such file; 'refocus-train light-paths' makes one"
        ) from error
    except ValueError as error:
        raise RefocusError(f"{path}: holds no estimator of light paths") from error
    return weights
