"""From evidence to a verdict, per tile and per frame."""

from typing import Any, cast

import numpy as np
import onnx
from numpy.typing import NDArray

from refocus.configs import ModelCard
from refocus.configs.trust import TrustStatistics
from refocus.engine.evidence import Array, Evidence, Familiar, NetworkOutputs, gather
from refocus.engine.judgement import TILE, Judgement, Verdict
from refocus.engine.model_file import read_trust
from refocus.engine.reblur import Reblur


class Judge:
    """Judges the results of one model.

    Parameters
    ----------
    card
        With thresholds.
    statistics
        That belong to it.
    """

    def __init__(self, card: ModelCard, statistics: TrustStatistics) -> None:
        assert card.trust is not None
        self._limits = card.trust
        self._reblur = Reblur(card.optics)
        self._familiar = Familiar(statistics)
        self._mean = np.array(statistics.evidence_mean, np.float32)
        self._scale = np.array(statistics.evidence_scale, np.float32)
        self._layers = [
            (np.array(layer.weights, np.float32), np.array(layer.bias, np.float32))
            for layer in statistics.layers
        ]

    def warm_up(self) -> None:
        """Compute what does not depend on a frame."""
        self._reblur.warm_up()

    def judge(self, seen: Array, outputs: NetworkOutputs) -> Judgement:
        """Judge a frame in network units, and what the network made of it.

        NumPy arrays, or tensors where the network left them.
        """
        evidence = gather(seen, outputs, self._reblur, self._familiar)
        tile_scores, score = self.scores(evidence.tiles), float(self.scores(evidence.frame))
        distance, sigma = _frame_distance(evidence)
        limits = self._limits
        tiles = self._verdicts(evidence.distance_um, tile_scores, limits.tile_score)
        verdict = str(self._verdicts(np.array(distance), np.array(score), limits.frame_score))
        # less and less is taken as doubt grows, so that a wrong verdict costs little
        near = _ramp(evidence.distance_um, limits.in_focus_um, 1.5 * limits.in_focus_um)
        share = near * _ramp(tile_scores, limits.tile_score, limits.full_score)
        share *= _ramp(np.array(score), limits.frame_score, limits.full_score)
        share *= (tiles == "refocused") & (verdict == "refocused")
        return Judgement(
            cast("Verdict", verdict),
            score,
            distance,
            sigma,
            evidence.consistency,
            evidence.domain,
            np.asarray(share, np.float32),
            TILE,
            tiles,
            evidence.distance_um,
        )

    def scores(self, evidence: NDArray[np.float32]) -> NDArray[np.float32]:
        """Give the probability of being no worse for ``(..., E)`` evidence."""
        x = np.clip((evidence - self._mean) / self._scale, -5, 5)
        for weights, bias in self._layers[:-1]:
            x = np.maximum(x @ weights + bias, 0)
        weights, bias = self._layers[-1]
        logit = np.clip((x @ weights + bias)[..., 0], -30, 30)
        return np.asarray(1 / (1 + np.exp(-logit)), dtype=np.float32)

    def _verdicts(
        self, distance_um: NDArray[np.floating[Any]], score: NDArray[Any], needed: float
    ) -> NDArray[np.str_]:
        near = distance_um < self._limits.in_focus_um
        far = distance_um > self._limits.beyond_um
        cases = [near, score >= needed, far]
        return np.select(cases, ["in-focus", "refocused", "beyond"], "unfamiliar")


def open_judge(proto: onnx.ModelProto, card: ModelCard, name: str) -> Judge | None:
    """Open the judge that a model file carries; None where it was not calibrated.

    Raises
    ------
    EngineError
        What it carries does not belong to its card.
    """
    statistics = read_trust(proto, card, name)
    there = {output.name for output in proto.graph.output}
    return (
        Judge(card, statistics) if statistics and there.issuperset(NetworkOutputs._fields) else None
    )


def _ramp(value: NDArray[Any], none: float, full: float) -> NDArray[np.float32]:
    """Rise from 0 at ``none`` to 1 at ``full``."""
    return np.asarray(np.clip((value - none) / max(full - none, 1e-6), 0, 1), np.float32)


def _frame_distance(evidence: Evidence) -> tuple[float, float]:
    """Give the median distance of what there is to see, and its standard deviation."""
    order = np.argsort(evidence.distance_um, axis=None)
    total = np.cumsum(evidence.weight.ravel()[order])
    middle = order[min(int(np.searchsorted(total, 0.5 * total[-1])), order.size - 1)]
    return float(evidence.distance_um.flat[middle]), float(evidence.sigma_um.flat[middle])
