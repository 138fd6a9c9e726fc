"""How far verdicts can be trusted: over sets of frames that are hard in a known way."""

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from refocus.configs.trust import Thresholds, Verdict
from refocus.engine.openvino import OpenVinoEngine
from refocus.engine.refocuser import Refocuser
from refocus.engine.trust.judgement import Judgement, blend
from refocus.optics.metrics import gtn, psnr
from refocus.training.judging.calibrate import (
    BETTER_DB,
    COVERAGE,
    IMPROVED_DB,
    LARGEST_DB,
    WORSE_DB,
    coverage,
)
from refocus.training.judging.curves import save_curves
from refocus.training.judging.hard_sets import WITHOUT_SPECIMEN, HardFrame
from refocus.training.judging.sheet import Row, save_sheet

VERDICTS: tuple[Verdict, ...] = get_args(Verdict)
LEVELS = 21
"""Points of the curve of risk against coverage."""

SIDES_FROM_UM = 4.0
"""From so far the sides of focus look different enough to be named."""

INTERVALS = (0.25, 0.5, 0.75, COVERAGE, 0.95, 0.99)

Told = Callable[[int], None]


@dataclass(frozen=True, eq=False)
class Judged:
    """One frame, what was said of it, and what came of it.

    Attributes
    ----------
    hard
        The frame.
    judgement
        Of it.
    pixels
        Published by default.
    before, network, published
        PSNR against the truth, dB: as captured, all of the network's result, and by default.
    """

    hard: HardFrame
    judgement: Judgement
    pixels: NDArray[Any]
    before: float
    network: float
    published: float


def judge_all(
    engine: OpenVinoEngine, frames: Sequence[HardFrame], told: Told = lambda _: None
) -> list[Judged]:
    """Refocus and judge frames, and compare what is published with the truth."""
    found = []
    refocuser = Refocuser(engine, on_distrust="refocused")
    for number, hard in enumerate(frames):
        # each frame for itself: they are no run
        done = refocuser.refocus(hard.frame, str(number), hard.light_path)
        refocused, judgement = done.pixels, done.judgement
        published = blend(hard.frame, refocused, judgement)
        truth, *given = gtn(hard.truth, hard.frame, refocused, published)
        found.append(Judged(hard, judgement, published, *(_db(truth, x) for x in given)))
        told(number + 1)
    return found


def _db(truth: NDArray[Any], given: NDArray[Any]) -> float:
    return min(psnr(truth, given), LARGEST_DB)


def trust_metrics(engine: OpenVinoEngine, judged: Sequence[Judged]) -> dict[str, Any]:
    """Give what ``trust.json`` holds."""
    groups = dict.fromkeys(j.hard.group for j in judged)
    limits = engine.info.card.trust if engine.info.card else None
    near = [j for j in judged if j.hard.familiar and np.isfinite(j.hard.distance_um)]
    claims = [(j.judgement.distance_um, abs(j.hard.distance_um)) for j in near]
    misses = [abs(claimed - true) for claimed, true in claims if claimed is not None]
    found: list[float] = []
    if limits and near:
        found = coverage(engine, [j.hard for j in near], limits.error_factor, INTERVALS)
    calibration = dict(zip(INTERVALS, found, strict=False))
    return {
        "schema": "refocus-trust/1",
        "model": engine.info.card.model_dump(mode="json") if engine.info.card else None,
        "sets": {name: _set([j for j in judged if j.hard.group == name]) for name in groups},
        "all": _set(judged),
        "flagged": flagged(judged),
        "risk_coverage": risk_coverage(judged),
        "confusion": confusion(judged, limits) if limits else {},
        "calibration": [{"stated": p, "found": f} for p, f in calibration.items()],
        "coverage_of_90_percent": calibration.get(COVERAGE),
        "distance_error_um": float(np.mean(misses)) if misses else None,
        "side_named_rightly": _side_named_rightly(near),
    }


def _side_named_rightly(judged: Sequence[Judged]) -> float | None:
    """Give the fraction of frames whose side is named rightly, where there are sides to speak of.

    The sign of a hard frame's distance is that of an aberration which is negative.
    """
    told = [(j.judgement.positive_side, j.hard.distance_um) for j in judged]
    named = [(p > 0.5) == (d > 0) for p, d in told if p is not None and abs(d) >= SIDES_FROM_UM]
    return float(np.mean(named)) if named else None


def _set(judged: Sequence[Judged]) -> dict[str, Any]:
    network = np.array([j.network - j.before for j in judged])
    published = np.array([j.published - j.before for j in judged])
    counts = Counter(str(j.judgement.verdict) for j in judged)
    return {
        "frames": len(judged),
        "psnr_before": float(np.mean([j.before for j in judged])),
        "gain_network": float(network.mean()),
        "gain_published": float(published.mean()),
        "worst_published": float(published.min()),
        "worse_network": float(np.mean(network < -WORSE_DB)),
        "worse_published": float(np.mean(published < -WORSE_DB)),
        "verdicts": {name: counts[name] for name in VERDICTS if counts[name]},
    }


def flagged(judged: Sequence[Judged]) -> dict[str, float]:
    """Say how many frames that the network makes worse are flagged, and how many others are."""
    kept = np.array([j.judgement.verdict in ("refocused", "unrated") for j in judged])
    gain = np.array([j.network - j.before for j in judged])
    worse, improved = gain < -WORSE_DB, gain > IMPROVED_DB
    improved &= np.array([j.hard.kind not in WITHOUT_SPECIMEN for j in judged])  # but denoised
    return {
        "made_worse": int(worse.sum()),
        "of_them_flagged": float(np.mean(~kept[worse])) if worse.any() else 1.0,
        "improved": int(improved.sum()),
        "false_alarms": float(np.mean(~kept[improved])) if improved.any() else 0.0,
    }


def confusion(judged: Sequence[Judged], limits: Thresholds) -> dict[str, dict[str, int]]:
    """Count the verdicts given, by the one that would have been right."""
    counts = Counter((_right(j, limits), str(j.judgement.verdict)) for j in judged)
    return {
        right: {given: counts[right, given] for given in VERDICTS if counts[right, given]}
        for right in VERDICTS[:-1]
    }


def _right(judged: Judged, limits: Thresholds) -> str:
    """Give the verdict that a frame should have had, by the truth."""
    distance, gain = abs(judged.hard.distance_um), judged.network - judged.before
    if judged.hard.kind in WITHOUT_SPECIMEN:
        return "blank"
    if distance <= limits.in_focus_um:
        return "in-focus"
    if distance > limits.beyond_um and gain < BETTER_DB:
        return "beyond"
    return "unfamiliar" if gain < -WORSE_DB or not judged.hard.restorable else "refocused"


def risk_coverage(judged: Sequence[Judged]) -> list[dict[str, float]]:
    """Give what is wrong with the frames kept, as the score asked for rises.

    ``worse`` is the fraction of them that the network makes worse; ``risk`` their mean error: root
    mean square against the truth, as a fraction of its range.
    """
    scores = np.array([j.judgement.score or 0.0 for j in judged])
    error = 10 ** (-np.array([j.network for j in judged]) / 20)
    worse = np.array([j.network - j.before < -WORSE_DB for j in judged])
    order = np.argsort(-scores)
    rows = []
    for kept in np.unique(np.linspace(1, len(judged), LEVELS).astype(int)):
        chosen = order[:kept]
        rows.append(
            {
                "coverage": float(kept / len(judged)),
                "score": float(scores[chosen[-1]]),
                "worse": float(worse[chosen].mean()),
                "risk": float(error[chosen].mean()),
            }
        )
    return rows


def markdown(metrics: dict[str, Any]) -> str:
    """Set the sets, and the figures over all of them, in Markdown."""
    head = ["set", "frames", "captured", "network", "published", "worst", "made worse by network",
            "by default", *VERDICTS[:-1]]  # fmt: skip
    lines = [head, ["---"] * len(head)]
    for name, row in [*metrics["sets"].items(), ("**all**", metrics["all"])]:
        counts = [str(row["verdicts"].get(v, "")) for v in VERDICTS[:-1]]
        lines.append(
            [
                name,
                str(row["frames"]),
                f"{row['psnr_before']:.1f} dB",
                f"{row['gain_network']:+.1f}",
                f"{row['gain_published']:+.1f}",
                f"{row['worst_published']:+.1f}",
                f"{row['worse_network']:.0%}",
                f"{row['worse_published']:.0%}",
                *counts,
            ]
        )
    body = "\n".join("| " + " | ".join(cells) + " |" for cells in lines)
    return f"{body}\n\n{_confusion_table(metrics)}\n\n{summary(metrics)}\n"


def _confusion_table(metrics: dict[str, Any]) -> str:
    lines = [["right", *VERDICTS[:-1]], ["---"] * len(VERDICTS)]
    for right, given in metrics["confusion"].items():
        lines.append([f"`{right}`", *(str(given.get(v, "")) for v in VERDICTS[:-1])])
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def summary(metrics: dict[str, Any]) -> str:
    """Say the figures over all sets in a few lines."""
    told, whole = metrics["flagged"], metrics["all"]
    lines = [
        f"- made worse than captured by more than {WORSE_DB} dB, by default: "
        f"{whole['worse_published']:.1%} (all of the network's results: "
        f"{whole['worse_network']:.1%})",
        f"- of {told['made_worse']} frames that the network makes worse, flagged: "
        f"{told['of_them_flagged']:.1%}, with false alarms on {told['false_alarms']:.1%} of "
        f"{told['improved']} frames that it improves",
    ]
    if metrics["distance_error_um"] is not None:
        lines.append(f"- distance from focus: {metrics['distance_error_um']:.2f} µm off on average")
    if metrics["side_named_rightly"] is not None:
        lines.append(
            f"- side of focus, from {SIDES_FROM_UM:g} µm on: named rightly for "
            f"{metrics['side_named_rightly']:.1%} of the frames"
        )
    if metrics["coverage_of_90_percent"] is not None:
        lines.append(
            f"- pixels within the {COVERAGE:.0%} interval: {metrics['coverage_of_90_percent']:.1%}"
        )
    return "\n".join(lines)


def write_trust(metrics: dict[str, Any], judged: Sequence[Judged], folder: Path) -> None:
    """Write ``trust.json``, ``trust.md``, a picture of each verdict and one of the curves."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "trust.json").write_text(json.dumps(metrics, indent=2) + "\n", encoding="utf-8")
    (folder / "trust.md").write_text(markdown(metrics), encoding="utf-8")
    rows = [row for verdict in VERDICTS if (row := _example(judged, verdict)) is not None]
    save_sheet(folder / "verdicts.png", "one frame of each verdict, as published by default", rows)
    save_curves(
        folder / "curves.png",
        [(row["coverage"], row["worse"]) for row in metrics["risk_coverage"]],
        [(row["stated"], row["found"]) for row in metrics["calibration"]],
    )


def _example(judged: Sequence[Judged], verdict: str) -> Row | None:
    """Take the frame of a verdict that shows it best."""
    found = [j for j in judged if j.judgement.verdict == verdict]
    if not found:
        return None
    # where there is something to see
    shown = [j for j in found if j.before < 55 and j.hard.group != "empty"] or found
    if verdict == "refocused":
        chosen = max(shown, key=lambda j: j.network - j.before)
    elif verdict == "in-focus":
        chosen = min(shown, key=lambda j: (j.hard.distance_um != 0, j.network - j.before))
    else:
        chosen = min(shown, key=lambda j: (j.hard.restorable, j.network - j.before))
    hard, score = chosen.hard, chosen.judgement.score
    told = f"{verdict}, score {score:.2f}" if score is not None else verdict
    notes = f"{chosen.before:.1f} dB", f"{told}, {chosen.published:.1f} dB"
    return Row(f"{hard.group}, {hard.kind}", hard.frame, chosen.pixels, hard.truth, *notes)
