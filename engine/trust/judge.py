"""From evidence to a verdict, per tile and per frame."""

import logging
import math
from typing import Any, cast

import numpy as np
import onnx
from array_api_compat import array_namespace
from numpy.typing import NDArray

from refocus.configs import ModelCard
from refocus.configs.trust import TrustStatistics, Verdict
from refocus.engine.light_path.filters import Likely, show
from refocus.engine.light_path.sight import Sight
from refocus.engine.model_file import read_trust
from refocus.engine.prepare import prepare
from refocus.engine.protocol import UNKNOWN, EngineInfo, Frame, LightPath, Refocused, log
from refocus.engine.tiling import Outputs
from refocus.engine.trust.evidence import (
    MAPS,
    NAMES,
    Evidence,
    Familiar,
    NetworkOutputs,
    evidence_of,
    measure,
    through_of,
)
from refocus.engine.trust.judgement import BLANK, DISTRUSTED, TILE, UNRATED, Judgement
from refocus.engine.trust.reblur import Reblur
from refocus.engine.trust.structure import is_structure, measure_structure
from refocus.engine.trust.tiles import Array, halved, noise_energy, on_host, tiles_of

NEAR_RAMP = 1.2
"""From so many times the distance called in focus, a tile's correction is taken in full."""

NOT_JUDGED = ArithmeticError, LookupError, TypeError, ValueError
"""What judging itself may fail with: the frame is not trusted then."""


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
        self._failed = False
        self._reblur = Reblur(card.optics, card.seen_in_focus)
        self._familiar = Familiar(statistics)
        self._mean = np.array(statistics.evidence_mean, np.float32)
        self._scale = np.array(statistics.evidence_scale, np.float32)
        # what was calibrated on less evidence was so on frames blurred again by its own optics
        self._by_light_path = self._mean.size > NAMES.index("second chance") and card.inputs > 1
        self._layers = [
            (np.array(layer.weights, np.float32), np.array(layer.bias, np.float32))
            for layer in statistics.layers
        ]

    def warm_up(self) -> None:
        """Compute what does not depend on a frame."""
        if not self._by_light_path:
            self._reblur.warm_up()

    def judge(
        self, seen: Array, outputs: NetworkOutputs, likely: Likely | None = None
    ) -> Judgement:
        """Judge a frame in network units, and what the network made of it.

        NumPy arrays, or tensors where the network left them. Should judging itself fail, the frame
        is not trusted; only a device's own errors are raised.

        Parameters
        ----------
        seen
            ``(H, W)``.
        outputs
            What the network made of it.
        likely
            The light paths that it was shown the frame for; None where it saw the frame alone.
        """
        try:
            looked = on_host(self.look(seen, outputs, through_of(seen, likely)))
        except NOT_JUDGED as error:
            return self.distrusted(error)
        return self.verdict(looked, seen.shape, likely)

    def look(self, seen: Array, outputs: NetworkOutputs, through: Array | None = None) -> Array:
        """Measure what a verdict is made of, ``(M, h, w)`` per tile, without waiting for a device.

        ``through`` is as for :func:`~refocus.engine.trust.evidence.measure`.

        Raises
        ------
        ArithmeticError, LookupError, TypeError, ValueError
            Of :data:`NOT_JUDGED`: a judge of this network cannot.
        """
        captured, noise, tiles = halved(seen), noise_energy(seen), tiles_of(seen)
        through = through if self._by_light_path else None
        evidence = measure(captured, noise, outputs, self._reblur, self._familiar, tiles, through)
        structure = measure_structure(seen, captured, noise)
        return array_namespace(seen).concat([structure, evidence])

    def distrusted(self, error: Exception) -> Judgement:
        """Give the judgement of a frame that could not be judged; the log says why, once."""
        level = logging.DEBUG if self._failed else logging.ERROR
        log.log(level, "frame not judged, so not trusted: %s", error, exc_info=error)
        self._failed = True
        return DISTRUSTED

    def verdict(
        self, looked: NDArray[np.float32], shape: tuple[int, ...], likely: Likely | None = None
    ) -> Judgement:
        """Judge a frame of this shape by what :meth:`look` gave of it, on the host."""
        try:
            return self._verdict(looked, shape, likely)
        except NOT_JUDGED as error:
            return self.distrusted(error)

    def _verdict(
        self, looked: NDArray[np.float32], shape: tuple[int, ...], likely: Likely | None
    ) -> Judgement:
        structure, maps = looked[: -len(MAPS)], looked[-len(MAPS) :]
        if not is_structure(structure, shape):
            return BLANK
        evidence = evidence_of(maps, likely)
        tile_scores, scores = self.scores(evidence.tiles), self.scores(evidence.frame)
        score = float(scores[0])
        distance, sigma = _frame_distance(evidence)
        limits = self._limits
        tiles = self._verdicts(evidence.distance_um, tile_scores, limits.tile_score)
        verdict = str(self._verdicts(np.array(distance), scores, limits.frame_score))
        if likely is not None and not likely.first.chance and verdict == "refocused":
            verdict = "unfamiliar"  # it was filtered for a blur that it doubts itself
        # less and less is taken as doubt grows, so that a wrong verdict costs little
        near = _ramp(evidence.distance_um, limits.in_focus_um, NEAR_RAMP * limits.in_focus_um)
        share = near * _ramp(tile_scores[..., 0], limits.tile_score, 2 * limits.tile_score)
        share *= _ramp(np.array(score), limits.frame_score, limits.full_score)
        share = np.where((tiles == "refocused") & (verdict == "refocused"), share, 0)
        return Judgement(
            cast("Verdict", verdict),
            score,
            _finite(distance),
            _finite(sigma),
            _finite(evidence.consistency),
            _finite(evidence.domain),
            np.asarray(share, np.float32),
            TILE,
            tiles,
            evidence.distance_um if np.isfinite(evidence.distance_um).all() else None,
            _finite(float(np.sum(evidence.weight * evidence.positive_side))),
        )

    def scores(self, evidence: NDArray[np.float32]) -> NDArray[np.float32]:
        """Give ``(..., 2)`` for ``(..., E)`` evidence: how likely it is no worse, and better.

        0 where the evidence is not finite.
        """
        evidence = evidence[..., : self._mean.size]  # one of before knows less
        x = np.clip((evidence - self._mean) / self._scale, -5, 5)
        for weights, bias in self._layers[:-1]:
            x = np.maximum(x @ weights + bias, 0)
        weights, bias = self._layers[-1]
        logits = np.clip(x @ weights + bias, -30, 30)
        return np.nan_to_num(np.asarray(1 / (1 + np.exp(-logits)), dtype=np.float32), nan=0.0)

    def _verdicts(
        self, distance_um: NDArray[np.floating[Any]], scores: NDArray[Any], needed: float
    ) -> NDArray[np.str_]:
        no_worse, better = scores[..., 0] >= needed, scores[..., 1] >= self._limits.better_score
        near = distance_um < self._limits.in_focus_um
        beyond = (distance_um > self._limits.beyond_um) & ~(no_worse & better)
        return np.select(
            [near, beyond, no_worse], ["in-focus", "beyond", "refocused"], "unfamiliar"
        )


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


def refocus_and_judge(  # noqa: PLR0917
    frame: Frame,
    network: Outputs,
    judge: Judge | None,
    engine: EngineInfo,
    sight: Sight | None = None,
    light_path: LightPath = UNKNOWN,
) -> Refocused:
    """Refocus a frame with normalisation and judgement on the CPU; unrated without a judge.

    ``sight`` shows it to a network that sees more than the frame.

    Raises
    ------
    EngineError
        The frame is none, or the network gave NaN or infinity.
    """
    prepared = prepare(frame, light_path.brightness)
    seen = prepared.seen
    likely = None if sight is None else sight.likely(frame, light_path)
    outputs = network(seen if likely is None else show(seen, likely))
    refocused = prepared.counts(outputs[0])
    if judge is None:
        return Refocused(refocused, UNRATED, engine)
    judgement = judge.judge(seen, NetworkOutputs(*outputs), likely)
    return Refocused(refocused, in_um(judgement, sight, light_path), engine)


def in_um(judgement: Judgement, sight: Sight | None, light_path: LightPath) -> Judgement:
    """State distances in µm of the user's own objective."""
    factor = 1.0 if sight is None else sight.um_per_unit(light_path)
    return judgement if factor == 1.0 else judgement.scaled(factor)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _ramp(value: NDArray[Any], none: float, full: float) -> NDArray[np.float32]:
    """Rise from 0 at ``none`` to 1 at ``full``."""
    return np.asarray(np.clip((value - none) / max(full - none, 1e-6), 0, 1), np.float32)


def _frame_distance(evidence: Evidence) -> tuple[float, float]:
    """Give the median distance of what there is to see, and its standard deviation."""
    order = np.argsort(evidence.distance_um, axis=None)
    total = np.cumsum(evidence.weight.ravel()[order])
    middle = order[min(int(np.searchsorted(total, 0.5 * total[-1])), order.size - 1)]
    return float(evidence.distance_um.flat[middle]), float(evidence.sigma_um.flat[middle])
