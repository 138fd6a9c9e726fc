"""Finding out when a model can be trusted, and writing that into its file.

The network has made thousands of frames better or worse; what its engine could have noticed of it
(:mod:`refocus.engine.trust.evidence`) is set against what happened, and small networks learn to
tell the two apart. Where verdicts begin is chosen on kinds of specimen that these did not learn
from.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from refocus.configs import ModelCard, RefocusError
from refocus.configs.trust import Layer, Thresholds, TrustStatistics
from refocus.engine.model_file import embed_card, embed_trust, read_model, write_model
from refocus.engine.openvino import OpenVinoEngine
from refocus.engine.trust.evidence import Familiar, gather, pooled_features
from refocus.engine.trust.judgement import TILE
from refocus.engine.trust.reblur import Reblur
from refocus.engine.trust.tiles import halved, tiles_of
from refocus.optics.metrics import gtn, psnr
from refocus.optics.psf import depth_of_field_um
from refocus.training.judging.hard_sets import HardFrame
from refocus.training.judging.measured_windows import MEASURED
from refocus.training.judging.scorer import as_one, learn, score
from refocus.training.judging.stale import STALE, stale_frames

WORSE_DB = 0.5
"""A frame that loses more than this has been made worse."""
BETTER_DB = 0.3
"""A frame that gains more than this has been made better."""
LEAST_DB = (-WORSE_DB, BETTER_DB)
"""What a frame gains at least that is no worse, and that is better."""
LARGEST_DB = 60.0
"""Frames that are this near to the truth are not told apart."""
COMPONENTS = 24
HARM, HARM_IN_FULL = 2.5, 3.0
"""A dB that a refocused frame loses counts as so many that one left as captured could have gained:
where trust begins, and where all of the correction is taken."""
RESAMPLED = 200
"""Draws of the frames, with repetition, over which a threshold is averaged: what it costs is flat
around its least, so a few frames move it far (bagging: Breiman, Mach. Learn. 24:123, 1996)."""
OF_A_TILE = 0.25
"""Fraction of a frame's score that a tile needs in a frame that is trusted, which speaks for its
tiles: one of them can be most of what there is to see."""
NEARLY = 0.9
"""So much of what leaving frames near focus alone can save is to be saved."""
LARGEST_LOSS_DB = 3.0
"""What a frame counts for at most where it is left alone or not."""
LOWEST = 0.0001
"""Score below which trust is never full."""
IMPROVED_DB = 0.1
FAR_ALARMS = 0.05
"""Fraction of the frames far from focus made better which may be called ``beyond``."""
COVERAGE = 0.90
FOLDS = 6

Told = Callable[[str, float], None]


@dataclass(frozen=True, eq=False)
class JudgedExamples:
    """Evidence beside what came of it.

    Attributes
    ----------
    frames
        ``(N, E)``, of whole frames.
    gains
        ``(N,)``, dB that each gained.
    kinds
        ``(N,)``, group and specimen of each.
    tiles
        ``(N, h, w, E)``.
    tile_gains
        ``(N, h, w)``, dB.
    claimed_um, true_um
        ``(N,)``; the truth is NaN where there is none.
    """

    frames: NDArray[np.float32]
    gains: NDArray[np.float32]
    kinds: NDArray[np.str_]
    tiles: NDArray[np.float32]
    tile_gains: NDArray[np.float32]
    claimed_um: NDArray[np.float32]
    true_um: NDArray[np.float32]

    @property
    def usual(self) -> NDArray[np.bool_]:
        """``(N,)``: not of :data:`~refocus.training.judging.stale.STALE`.

        Focus seldom jumps: those teach what it looks like, and have no say in where trust begins.
        """
        return np.array([not kind.startswith(STALE) for kind in self.kinds])


def calibrate(
    model: Path, output: Path, frames: Sequence[HardFrame], calibrated_on: str, seed: int = 0
) -> ModelCard:
    """Calibrate a model.

    Parameters
    ----------
    model
        ONNX file with a card, whose network says how sure it is.
    output
        Where the same model is written with what its verdicts need; may be ``model``.
    frames
        To calibrate on, all of one size.
    calibrated_on
        One sentence on them, for the card.
    seed
        Of where the small networks start.

    Returns
    -------
    ModelCard
        With thresholds.

    Raises
    ------
    RefocusError
        The model cannot be read or says nothing but pixels, or the frames are too few.
    """
    if len(frames) < 10 * FOLDS:
        raise RefocusError(f"{len(frames)} frames are too few to calibrate on; give hundreds")
    proto, card = read_model(model)
    torch.manual_seed(seed)
    engine = OpenVinoEngine(model, precision="f32")
    try:
        familiar = _familiar(engine, frames)
        reblur = Reblur(card.optics, card.seen_in_focus)
        shown = [*frames, *stale_frames(engine, frames, seed)]
        examples = examine_frames(engine, shown, reblur, Familiar(familiar))
        factor = error_factor(engine, [f for f in frames if f.familiar])
    finally:
        engine.close()
    statistics = _fitted(examples, familiar)
    beyond_um = round(0.8 * card.defocus_um[1], 1)
    frame_score, full_score, better_score = _thresholds(examples, beyond_um)
    limits = Thresholds(
        in_focus_um=max(_in_focus_um(examples), round(depth_of_field_um(card.optics) / 2, 2)),
        beyond_um=beyond_um,
        frame_score=frame_score,
        tile_score=round(OF_A_TILE * frame_score, 4),
        full_score=full_score,
        better_score=better_score,
        error_factor=factor,
        calibrated_on=calibrated_on,
        sha256=statistics.digest(),
    )
    embed_trust(proto, statistics)
    card = embed_card(proto, card.model_copy(update={"trust": limits}))
    write_model(proto, output)
    return card


def examine_frames(
    engine: OpenVinoEngine, frames: Iterable[HardFrame], reblur: Reblur, familiar: Familiar
) -> JudgedExamples:
    """Refocus frames of one size, and set the evidence beside what came of it."""
    rows = []
    for frame in frames:
        light_path, per_unit, likely = frame.light_path, 1.0, None
        if engine.sight is not None:
            per_unit = engine.sight.um_per_unit(light_path)
            likely = engine.sight.likely(frame.frame, light_path)
            light_path = replace(light_path, believed=tuple(likely))
        prepared, outputs = engine.outputs(frame.frame, light_path)
        evidence = gather(prepared.seen, outputs, reblur, familiar, likely)
        refocused = prepared.counts(outputs.refocused)
        gain = frame_gain(frame, refocused)
        tiles = _tile_gains(frame, refocused, evidence.tiles.shape[:2])
        if not frame.restorable:  # whatever little was changed there, it was no good
            gain, tiles = min(gain, -2 * WORSE_DB), np.minimum(tiles, -2 * WORSE_DB)
        rows.append(
            (
                evidence.frame,
                gain,
                f"{frame.group}, {frame.kind}",
                evidence.tiles,
                tiles,
                float(np.sum(evidence.weight * evidence.distance_um)),
                abs(frame.distance_um) / per_unit,
            )
        )
    return JudgedExamples(*(np.array(column) for column in zip(*rows, strict=True)))


def frame_gain(frame: HardFrame, given: NDArray[np.generic]) -> float:
    """Give the dB that a frame gained, as it is published."""
    truth, before, after = gtn(frame.truth, frame.frame, given)
    return min(psnr(truth, after), LARGEST_DB) - min(psnr(truth, before), LARGEST_DB)


def error_factor(engine: OpenVinoEngine, frames: Sequence[HardFrame]) -> float:
    """Find what makes the network's own scale of its error true: 90 % within the 90 % interval."""
    ratios = []
    for frame in frames[:300]:
        error, scale = _errors(engine, frame)
        ratios.append((error / scale).ravel()[::7])
    return float(np.quantile(np.concatenate(ratios), COVERAGE) / -np.log(1 - COVERAGE))


def coverage(
    engine: OpenVinoEngine,
    frames: Sequence[HardFrame],
    factor: float,
    levels: Sequence[float] = (COVERAGE,),
) -> list[float]:
    """Give the fractions of pixels that lie within intervals of a Laplace distribution."""
    within = [-np.log(1 - level) * factor for level in levels]
    inside = []
    for frame in frames:
        error, scale = _errors(engine, frame)
        inside.append([np.mean(error <= reach * scale) for reach in within])
    return [float(found) for found in np.mean(inside, axis=0)]


def _errors(
    engine: OpenVinoEngine, frame: HardFrame
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Give the error of each 2 × 2 pixels, and the scale that the network expects of it."""
    prepared, outputs = engine.outputs(frame.frame, frame.light_path)
    truth = prepared.level.apply(frame.truth)
    height, width = (n - n % 2 for n in truth.shape)
    error = halved(np.abs(outputs.refocused[:height, :width] - truth[:height, :width]))
    return error, outputs.error[0, : height // 2, : width // 2]


def _tile_gains(
    frame: HardFrame, refocused: NDArray[np.generic], shape: tuple[int, ...]
) -> NDArray[np.float32]:
    """Give the dB that each tile gained; errors too small to see count as none."""
    truth, before, after = gtn(frame.truth, frame.frame, refocused)
    seen = 10 ** (-LARGEST_DB / 10)
    gains = np.zeros(shape, np.float32)
    for row, column in np.ndindex(*shape):
        window = np.s_[row * TILE : (row + 1) * TILE, column * TILE : (column + 1) * TILE]
        was, became = (np.mean((x[window] - truth[window]) ** 2) + seen for x in (before, after))
        gains[row, column] = 10 * np.log10(was / became)
    return gains


def _familiar(engine: OpenVinoEngine, frames: Sequence[HardFrame]) -> TrustStatistics:
    """Describe the encoder's features on frames such as training draws."""
    pooled = []
    for frame in [f for f in frames if f.familiar][:400]:
        _, outputs = engine.outputs(frame.frame, frame.light_path)
        pooled.append(pooled_features(outputs.features, tiles_of(outputs.refocused)))
    rows = np.concatenate([p.reshape(-1, p.shape[-1]) for p in pooled])
    mean = rows.mean(0)
    values, vectors = np.linalg.eigh(np.cov(rows.T))
    kept = min(COMPONENTS, len(values))
    basis = vectors[:, -kept:] / np.sqrt(values[-kept:] + 1e-6)
    radius = np.quantile(np.sqrt(np.mean(((rows - mean) @ basis) ** 2, -1)), 0.95)
    return TrustStatistics(
        feature_mean=_short(mean),
        feature_basis=[_short(row) for row in basis],
        feature_radius=float(radius),
        evidence_mean=[],
        evidence_scale=[],
        layers=[],
    )


def _fitted(examples: JudgedExamples, familiar: TrustStatistics) -> TrustStatistics:
    """Learn to tell better from worse, on all examples."""
    rows, gains, _ = _rows(examples)
    mean, scale = rows.mean(0), rows.std(0) + 1e-6
    layers = as_one(learn((rows - mean) / scale, gains, LEAST_DB))
    return familiar.model_copy(
        update={
            "evidence_mean": _short(mean),
            "evidence_scale": _short(scale),
            "layers": [
                Layer(weights=[_short(row) for row in weights], bias=_short(bias))
                for weights, bias in layers
            ],
        }
    )


def _thresholds(examples: JudgedExamples, beyond_um: float) -> tuple[float, float, float]:
    """Choose where trust ends for frames, where it is full, and what is no better.

    By the scores of kinds that the scorer did not learn from.
    """
    rows, gains, kinds = _rows(examples)
    no_tile = np.zeros(examples.tile_gains.size, bool)
    usual = np.append(examples.usual, no_tile)
    groups = np.array([k.split(", ")[0] for k in kinds])
    species = np.array([k.split(", ")[1] for k in kinds])
    scores = np.zeros((len(rows), 2), np.float32)
    # what is familiar is judged by specimen or field, the rest by what is wrong with it
    for names in (groups, species):
        for fold in range(FOLDS):
            held = np.isin(names, sorted(set(names))[fold::FOLDS])
            mine = held & (np.isin(groups, ("familiar", MEASURED, STALE)) == (names is species))
            if not mine.any() or held.all():
                continue
            mean, scale = rows[~held].mean(0), rows[~held].std(0) + 1e-6
            scorer = learn((rows[~held] - mean) / scale, gains[~held], LEAST_DB)
            scores[mine] = score(scorer, (rows[mine] - mean) / scale)
    both = HARM, HARM_IN_FULL
    frame, full = (_steadied(scores[usual, 0], gains[usual], harm) for harm in both)
    far = usual & np.append(examples.claimed_um > beyond_um, no_tile)
    improved = scores[far & (gains > BETTER_DB), 1]
    better = round(float(np.quantile(improved, FAR_ALARMS)), 4) if improved.size else 1.0
    return frame, max(full, LOWEST), better  # of a poor model, a score may be nothing at all


def _steadied(scores: NDArray[np.float32], gains: NDArray[np.float32], harm: float) -> float:
    """Average what :func:`least_costly` chooses over draws of the frames."""
    rng = np.random.default_rng(0)
    drawn = (rng.integers(len(scores), size=len(scores)) for _ in range(RESAMPLED))
    chosen = [least_costly(scores[some], gains[some], harm) for some in drawn]
    return round(float(np.mean(chosen)), 4)


def least_costly(scores: NDArray[np.float32], gains: NDArray[np.float32], harm: float) -> float:
    """Choose the score from which on frames are best refocused.

    Parameters
    ----------
    scores, gains
        ``(N,)``, and what refocusing gave each frame, dB.
    harm
        What a dB lost counts for beside one forgone.

    Returns
    -------
    float
        1 where it is best to trust none.
    """
    order = np.argsort(scores)
    gain = np.clip(gains[order], -LARGEST_LOSS_DB, LARGEST_LOSS_DB)
    # of leaving the first n alone: what they would have gained, less what they would have lost
    left = np.append(0.0, np.cumsum(np.where(gain > 0, gain, harm * gain)))
    first = int(np.argmin(left))
    return round(float(scores[order][first]), 4) if first < len(order) else 1.0


def _rows(
    examples: JudgedExamples,
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.str_]]:
    """Put frames and tiles into one list, frames first."""
    count = examples.tile_gains[0].size
    rows = np.concatenate([examples.frames, examples.tiles.reshape(-1, examples.tiles.shape[-1])])
    gains = np.concatenate([examples.gains, examples.tile_gains.ravel()])
    kinds = np.concatenate([examples.kinds, np.repeat(examples.kinds, count)])
    return rows, gains, kinds


def _in_focus_um(examples: JudgedExamples) -> float:
    """Give the smallest claimed distance below which leaving frames alone saves most over all."""
    claimed_um, gains = examples.claimed_um[examples.usual], examples.gains[examples.usual]
    order = np.argsort(claimed_um)
    lost = np.append(0.0, np.cumsum(np.clip(gains[order], -LARGEST_LOSS_DB, None)))
    # of those before it, the sum of gains is about as low as it gets
    first = int(np.argmax(lost <= NEARLY * lost.min()))
    return round(float(claimed_um[order][first]), 2) if first < len(order) else 0.0


def _short(values: NDArray[np.floating]) -> list[float]:
    """Give numbers with the digits that FP32 has, so that the file stays small."""
    return [float(f"{v:.7g}") for v in values]
