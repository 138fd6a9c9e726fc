"""How far to trust a model: against doing nothing, and against Richardson-Lucy.

The row ``model`` is of all that the network makes of a frame, ``published`` of what a run publishes
of that by default. Where the light path is known, as that of simulated frames is, there are two
more: the Wiener filter told it and the kind of specimen, which is the limit of what is linear, and
the model told it, if it can be. Of real frames nobody knows it, and they are left out.

Every figure is of frames in GTN (scaled by the in-focus frame's 0.1 to 99.9 percentiles and
clipped), per plane and per channel.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from refocus.configs import RefocusError
from refocus.configs.files import replacing
from refocus.optics.camera import CameraModel
from refocus.optics.metrics import gtn, psnr, ssim
from refocus.training.judging.candidate import Candidate
from refocus.training.judging.restore import TRIED, Wiener, best_richardson_lucy, richardson_lucy
from refocus.training.judging.samples import Sample, planes
from refocus.training.judging.segment import SEGMENTER, Nuclei, compare, segment
from refocus.training.judging.sheet import Row, save_sheet
from refocus.training.network.vgg import VGG16Features

NOTHING, CLASSICAL, MODEL, PUBLISHED = "do nothing", "Richardson-Lucy", "model", "published"
WIENER, MODEL_TOLD = "Wiener, told all", "model, told all"
GUESSES_UM = (3.0, 5.0, 8.0, 12.0, 16.0, 24.0, 32.0)
"""Distances tried for Richardson-Lucy where the distance is not known."""
SIDE = 128
"""Side of the window, from the middle, that features are compared on."""
HARM_FRAMES, EQUIVARIANCE_FRAMES = 16, 4
GAINS_OFFSETS = ((1, 700), (2, 0), (3, 400))
SMALLEST_RANGE = 1000

Plane = NDArray[Any]
Told = Callable[[str, int, int], None]
"""Called with the plane at work, the frames done and their number."""


@dataclass
class Scores:
    """Figures of one method on one plane and channel, summed over its frames."""

    psnr: list[float] = field(default_factory=list)
    ssim: list[float] = field(default_factory=list)
    feature: list[float] = field(default_factory=list)
    nuclei: Nuclei = field(default_factory=Nuclei)

    def describe(self) -> dict[str, float]:
        """Give the means, and the worst frame."""
        return {
            "psnr": _mean(self.psnr),
            "psnr_worst": min(self.psnr),
            "ssim": _mean(self.ssim),
            "feature_distance": _mean(self.feature),
            **self.nuclei.describe(),
        }


class FeatureDistance:
    """Distance between frames in the features of a VGG-16, as LPIPS without its learnt weights.

    Zhang et al., CVPR 2018: features of unit length over channels, mean squared difference.
    """

    def __init__(self, weights: str) -> None:
        self._vgg = VGG16Features(weights)

    def describe(self, pixels: Plane) -> list[torch.Tensor]:
        """Give the unit features of a frame in [0, 1], ``(H, W)``, of a window in its middle."""
        with torch.inference_mode():
            taps = self._vgg(_middle(pixels)[None])
            return [t / (t.norm(dim=1, keepdim=True) + 1e-9) for t in taps]

    def between(self, a: list[torch.Tensor], b: list[torch.Tensor]) -> float:
        """Compare the features of two frames."""
        taps = zip(a, b, strict=True)
        return sum(float(((x - y) ** 2).sum(1).mean()) for x, y in taps) / len(a)


def evaluate(
    model: Candidate,
    samples: list[Sample],
    judged_on: str = "",
    *,
    vgg: str = "random",
    sheets: Path | None = None,
    told: Told | None = None,
) -> dict[str, Any]:
    """Measure a model.

    Parameters
    ----------
    model
        What is judged.
    samples
        On which frames.
    judged_on
        What they are, in words.
    vgg
        Weights of the feature distance: ``imagenet`` or ``random``.
    sheets
        Folder for a contact sheet per plane and channel.
    told
        Told how far it is.

    Returns
    -------
    dict
        What ``metrics.json`` holds.

    Raises
    ------
    RefocusError
        There is nothing to judge on, or a frame cannot be read.
    """
    if not samples:
        raise RefocusError("there is no frame to evaluate on; is every well trained on?")
    features = FeatureDistance(vgg)
    groups, done = [], 0
    for plane, channel, group in planes(samples):
        distance = _distance(group, model)
        scores: dict[str, Scores] = {}
        rivals = _Rivals(distance, _wiener(group[0], model))
        for sample in group:
            _score(sample, model, rivals, features, scores)
            done += 1
            if told:
                told(f"{plane} {channel}", done, len(samples))
        groups.append(
            {
                "plane": plane,
                "channel": channel,
                "frames": len(group),
                "richardson_lucy_um": distance,
                "rows": {name: s.describe() for name, s in scores.items()},
            }
        )
        if sheets is not None:
            _draw(sheets, group, model, scores[NOTHING].psnr, scores[MODEL].psnr)
    return {
        "schema": "refocus-evaluation/1",
        "model": model.card.model_dump(mode="json"),
        "judged_on": judged_on,
        "normalisation": "GTN: 0.1 to 99.9 percentiles of the in-focus frame, clipped",
        "segmenter": SEGMENTER,
        "feature_distance": f"VGG-16, {vgg} weights",
        "richardson_lucy": f"at its best number of iterations, {TRIED[-1]} at most; the optics of "
        "the model card",
        "planes": groups,
        "in_focus": in_focus(model, samples),
        "equivariance_error": equivariance_error(model, samples),
        "seconds_per_megapixel": model.seconds_per_megapixel,
    }


def in_focus(model: Candidate, samples: list[Sample]) -> dict[str, float]:
    """Measure the harm done to frames already in focus: PSNR against themselves."""
    found = []
    for sample in _spread(samples, HARM_FRAMES):
        _, reference = sample.read()
        wanted, given = gtn(reference, model(reference))
        found.append(min(psnr(wanted, given), 100.0))  # untouched is infinite
    return {"frames": len(found), "psnr": _mean(found), "psnr_worst": min(found)}


def equivariance_error(model: Candidate, samples: list[Sample]) -> float | None:
    """Measure the largest ``|refocus(a·x + b) - (a·refocus(x) + b)|``, as a fraction of the range.

    For gains and offsets that keep the range above 1,000 counts and clip nothing; what the
    rounding of the counts adds is part of it. None where every frame is constant.
    """
    errors = []
    for sample in _spread(samples, EQUIVARIANCE_FRAMES):
        frame = sample.read()[0].astype(np.float64)
        if not np.ptp(frame):
            continue
        # room above and below for what the network adds, at a range that is not mostly rounding
        frame = np.rint((frame - frame.min()) * (2 * SMALLEST_RANGE / np.ptp(frame))) + 2000
        plain = model(frame.astype(np.uint16)).astype(np.float64)
        for gain, offset in GAINS_OFFSETS:
            changed = frame * gain + offset
            other = model(changed.astype(np.uint16)).astype(np.float64)
            error = np.abs(other - (gain * plain + offset)).max()
            errors.append(float(error / np.ptp(changed)))
    return max(errors, default=None)


def write_metrics(metrics: dict[str, Any], folder: Path) -> None:
    """Write ``metrics.json`` and ``table.md``, each at once."""
    _write(folder / "metrics.json", json.dumps(metrics, indent=2) + "\n")
    _write(folder / "table.md", markdown(metrics))


COLUMNS = (
    ("psnr", "PSNR dB", "{:.2f}"),
    ("ssim", "SSIM", "{:.3f}"),
    ("feature_distance", "features", "{:.4f}"),
    ("f1", "nuclei F1", "{:.3f}"),
    ("count", "found", "{:.0f}"),
    ("count_in_focus", "of", "{:.0f}"),
    ("invented", "invented", "{:.0f}"),
    ("area_error", "area error", "{:.1%}"),
    ("intensity_error", "light error", "{:.1%}"),
)


def table_rows(metrics: dict[str, Any]) -> list[list[str]]:
    """Give the cells of the table: plane, channel, frames, method and figures."""
    rows = []
    for group in metrics["planes"]:
        for name, row in group["rows"].items():
            method = f"{name}, {group['richardson_lucy_um']:g} µm" if name == CLASSICAL else name
            figures = [pattern.format(row[key]) for key, _, pattern in COLUMNS]
            rows.append([group["plane"], group["channel"], str(group["frames"]), method, *figures])
    return rows


def summary(metrics: dict[str, Any]) -> str:
    """Say what the table does not."""
    harm, seconds = metrics["in_focus"], metrics["seconds_per_megapixel"]
    error = metrics["equivariance_error"]
    bent = "not measured" if error is None else f"{error:.2%} of the range"
    speed = "" if seconds is None else f"; {seconds:.2f} s per megapixel"
    on = f"judged on {metrics['judged_on']}\n" if metrics["judged_on"] else ""
    return (
        f"{on}already in focus: {harm['psnr']:.1f} dB against itself, "
        f"{harm['psnr_worst']:.1f} at worst; "
        f"equivariance error {bent}{speed}"
    )


def markdown(metrics: dict[str, Any]) -> str:
    """Set the table in Markdown."""
    head = ["plane", "channel", "frames", "method", *(title for _, title, _ in COLUMNS)]
    lines = [head, ["---"] * len(head), *table_rows(metrics)]
    body = "\n".join("| " + " | ".join(cells) + " |" for cells in lines)
    return f"{body}\n\n{summary(metrics)}\n\nNuclei: {metrics['segmenter']}; IoU above 0.5.\n"


class _Rivals(NamedTuple):
    """What classical restoration of a plane is told."""

    distance_um: float
    wiener: Wiener | None


def _score(
    sample: Sample,
    model: Candidate,
    rivals: _Rivals,
    features: FeatureDistance,
    scores: dict[str, Scores],
) -> None:
    frame, reference = sample.read()
    labels = segment(reference)
    wanted_features = features.describe(gtn(reference)[0])
    judged = model.judged(frame, f"{sample.plane} {sample.channel}")
    optics, distance = sample.optics, rivals.distance_um
    results = {
        NOTHING: frame,
        CLASSICAL: best_richardson_lucy(
            frame, model.card.optics, distance, lambda found: psnr(*gtn(reference, found))
        ),
        WIENER: None if rivals.wiener is None else rivals.wiener(frame),
        MODEL: judged.whole,
        MODEL_TOLD: None if optics is None else model.told(frame, optics, distance),
        PUBLISHED: judged.published,
    }
    for name, pixels in results.items():
        if pixels is None:
            continue
        wanted, given = gtn(reference, pixels)
        row = scores.setdefault(name, Scores())
        row.psnr.append(min(psnr(wanted, given), 100.0))
        row.ssim.append(ssim(wanted, given))
        row.feature.append(features.between(wanted_features, features.describe(given)))
        row.nuclei += compare(reference, pixels, labels)


def _wiener(sample: Sample, model: Candidate) -> Wiener | None:
    """Make the filter for the frames of a plane; None where their light path is not known."""
    if sample.optics is None or sample.alike is None or sample.distance_um is None:
        return None
    in_focus = model.card.seen_in_focus
    alike, camera = sample.alike(), CameraModel()
    return Wiener(alike, sample.optics, sample.distance_um, camera, seen_in_focus=in_focus)


def _distance(group: list[Sample], model: Candidate) -> float:
    """Give the distance for Richardson-Lucy: as stated, or else the one that serves it best."""
    stated = [s.distance_um for s in group if s.distance_um is not None]
    if stated:
        return stated[0]
    pairs = [s.read() for s in _spread(group, 2)]

    def quality(distance: float) -> float:
        tried = [(r, richardson_lucy(f, model.card.optics, distance)) for f, r in pairs]
        return _mean([psnr(*gtn(reference, given)) for reference, given in tried])

    return max(GUESSES_UM, key=quality)


def _draw(
    folder: Path, group: list[Sample], model: Candidate, before: list[float], after: list[float]
) -> None:
    """Draw the worst, the median and the best field of a plane."""
    plane, channel = group[0].plane, group[0].channel
    order = np.argsort(after)
    picked = dict.fromkeys([int(order[0]), int(order[len(order) // 2]), int(order[-1])])
    rows = []
    for number in picked:
        frame, reference = group[number].read()
        notes = f"{before[number]:.1f} dB", f"{after[number]:.1f} dB"
        rows.append(Row(group[number].name, frame, model(frame), reference, *notes))
    folder.mkdir(parents=True, exist_ok=True)
    plain = f"{plane}_{channel}".replace("µ", "u")
    name = "".join(c if c.isalnum() or c in "+-" else "_" for c in plain)
    title = f"{model.card.name}   {plane}   {channel}   worst, median and best of {len(group)}"
    save_sheet(folder / f"sheet_{name}.png", title, rows)


def _spread(samples: list[Sample], count: int) -> list[Sample]:
    """Take a few, evenly."""
    places = np.linspace(0, len(samples) - 1, min(count, len(samples))).astype(int)
    return [samples[i] for i in dict.fromkeys(places.tolist())]


def _middle(pixels: Plane) -> torch.Tensor:
    top, left = (max(0, (n - SIDE) // 2) for n in pixels.shape)
    window = pixels[top : top + SIDE, left : left + SIDE]
    return torch.from_numpy(np.ascontiguousarray(window, dtype=np.float32))[None]


def _mean(values: list[float]) -> float:
    return float(np.mean(values))


def _write(path: Path, text: str) -> None:
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8")
