"""The small networks that tell better from worse."""

import numpy as np
import torch

from refocus.training.judging.scorer import SCORERS, as_one, learn, score


def test_they_learn_what_made_frames_worse_and_become_one_network() -> None:
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(600, 3)).astype(np.float32)
    gains = np.where(rows[:, 0] + rows[:, 1] > 0, 2.0, -2.0).astype(np.float32)
    torch.manual_seed(0)

    layers = learn(rows[:500], gains[:500], (-0.5, 0.3))
    scores = score(layers, rows[500:])

    assert {weights.shape[0] for weights, _ in layers} == {SCORERS}
    assert np.mean((scores > 0.5).all(1) == (gains[500:] > 0)) > 0.9
    x = rows[500:].clip(-5, 5)
    *within, (weights, bias) = as_one(layers)
    for inner, offset in within:
        x = np.maximum(x @ inner + offset, 0)
    np.testing.assert_allclose(1 / (1 + np.exp(-(x @ weights + bias))), scores, atol=1e-5)
