"""The small networks that tell, by the evidence, whether a frame was made better or worse."""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

HIDDEN = (32, 16)
SCORERS = 4
"""Small networks whose scores, before they are made chances, are averaged: one alone depends on
where it started."""
STEPS = 1500
JITTER = 0.6
"""Of the evidence while they learn, standard deviations: what they are asked about later is of
other specimens."""

Weights = tuple[torch.Tensor, torch.Tensor]
"""Of one layer of the small networks: weights and bias."""


def learn(
    rows: NDArray[np.float32], gains: NDArray[np.float32], least_db: tuple[float, float]
) -> list[Weights]:
    """Fit the small networks; what gains or loses most, counts most.

    Parameters
    ----------
    rows
        ``(N, E)``, the evidence, of mean 0 and deviation 1.
    gains
        ``(N,)``, what came of it, dB.
    least_db
        The gains from which on it is no worse, and better.

    Returns
    -------
    list[Weights]
        Of each layer, ``(SCORERS, inputs, outputs)`` and ``(SCORERS, 1, outputs)``.
    """
    widths = (rows.shape[1], *HIDDEN, 2)
    layers = [
        ((2 * torch.rand(SCORERS, a, b) - 1) / a**0.5, (2 * torch.rand(SCORERS, 1, b) - 1) / a**0.5)
        for a, b in pairwise(widths)
    ]
    learned = [part.requires_grad_() for layer in layers for part in layer]
    x = torch.from_numpy(rows).float().clamp(-5, 5)
    over = torch.from_numpy(gains).float()[:, None] - torch.tensor(least_db)
    so = (over > 0).float()
    # frames lost are few: both sides count the same
    balance = torch.where(over > 0, 0.5 / (so.mean(0) + 1e-6), 0.5 / (1 - so.mean(0) + 1e-6))
    amount = over.abs().clamp(0.1, 3.0) * balance
    optimizer = torch.optim.AdamW(learned, lr=0.01, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    for _ in range(STEPS):
        picked = torch.randint(len(x), (SCORERS, 512))
        shown = x[picked] + JITTER * torch.randn(SCORERS, 512, x.shape[1])
        each = F.binary_cross_entropy_with_logits(
            _logits(layers, shown), so[picked], amount[picked], reduction="none"
        )
        optimizer.zero_grad()
        each.mean((1, 2)).sum().backward()
        optimizer.step()
        schedule.step()
    return [(weights.detach(), bias.detach()) for weights, bias in layers]


def _logits(layers: Sequence[Weights], x: torch.Tensor) -> torch.Tensor:
    """Give what each of the small networks says, ``(SCORERS, N, 2)``."""
    for weights, bias in layers[:-1]:
        x = F.relu(x @ weights + bias)
    weights, bias = layers[-1]
    return x @ weights + bias


def score(layers: Sequence[Weights], rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Give ``(N, 2)`` chances of ``(N, E)`` evidence: no worse, and better."""
    x = torch.from_numpy(rows).float().clamp(-5, 5)
    scores: NDArray[np.float32] = torch.sigmoid(_logits(layers, x).mean(0)).numpy()
    return scores


def as_one(layers: Sequence[Weights]) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
    """Put the small networks side by side into a larger one that gives their average."""
    first, *within, last = layers
    yield np.concatenate(list(first[0].numpy()), 1), first[1].numpy().ravel()
    for weights, bias in within:
        yield torch.block_diag(*weights).numpy(), bias.numpy().ravel()
    yield np.concatenate(list(last[0].numpy())) / SCORERS, last[1].mean(0).numpy().ravel()
