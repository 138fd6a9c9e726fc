"""What a run has to show for itself: ``report.json``, and the table at its end."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.text import Text

from refocus.acquisition.microscopes.scene import Truth
from refocus.acquisition.pipeline.frame import FrameResult
from refocus.acquisition.pipeline.sink import RunInfo
from refocus.acquisition.pipeline.stats import Stats
from refocus.configs.files import replacing

Witness = Callable[[int], Truth | None]
"""Tells what is known of a capture number; None where that is nothing."""

STATES = ("received", "published", "deferred", "dropped", "failed")
"""Of frames, as the report counts them."""
BEST_PSNR_DB = 100.0  # what equal frames count for: JSON knows no infinity


@dataclass(frozen=True)
class FrameQuality:
    """How near one frame was to the truth, before and after; PSNR in dB."""

    psnr_before: float
    psnr_after: float
    ssim_before: float
    ssim_after: float


@dataclass(frozen=True)
class Quality:
    """Means of :class:`FrameQuality` over ``n`` frames."""

    psnr_before: float
    psnr_after: float
    ssim_before: float
    ssim_after: float
    n: int


class Album:
    """A sink that keeps frames for judging a run afterwards, within a bounded amount of memory.

    Judging costs more than refocusing, so it waits until the run is over. When the album is full
    every second page is thrown away, and from then on only every second frame is kept: what is
    left is evenly spread over the whole run.

    Parameters
    ----------
    limit_bytes
        Pixels kept, captured and refocused together.
    frames
        How many are coming, so that none is kept in vain: fresh memory for every one of the
        first frames would hold the run up. 0 where nobody knows.
    """

    def __init__(self, limit_bytes: int = 128 * 2**20, frames: int = 0) -> None:
        self._limit = limit_bytes
        self._frames = frames
        self._every = 1
        self._seen = 0
        self._bytes = 0
        self._pages: list[tuple[int, FrameResult]] = []

    @property
    def results(self) -> list[FrameResult]:
        """The frames kept, in order."""
        return [result for _, result in self._pages]

    def start(self, run: RunInfo) -> None:
        """Open an empty album."""
        self._pages, self._every, self._seen, self._bytes = [], 1, 0, 0

    def put(self, result: FrameResult) -> None:
        """Keep a frame, if it is its turn."""
        seen, self._seen = self._seen, self._seen + 1
        while not seen and self._frames * _size(result) > self._limit * self._every:
            self._every *= 2
        if seen % self._every:
            return
        self._pages.append((seen, result))
        self._bytes += _size(result)
        while self._bytes > self._limit and len(self._pages) > 1:
            self._every *= 2
            self._pages = [page for page in self._pages if page[0] % self._every == 0]
            self._bytes = sum(_size(kept) for _, kept in self._pages)

    def close(self, stats: Stats) -> None:
        """Keep what there is."""


def judge_frame(
    captured: NDArray[Any], refocused: NDArray[Any], in_focus: NDArray[Any]
) -> FrameQuality:
    """Compare a frame, before and after, with the truth.

    Parameters
    ----------
    captured, refocused, in_focus
        ``(H, W)`` each. All are scaled by the in-focus frame's 0.1 to 99.9 percentiles and
        clipped to [0, 1], see :func:`refocus.optics.metrics.gtn`.
    """
    from refocus.optics.metrics import gtn, psnr, ssim  # 2 s that only a known truth is worth

    truth, before, after = gtn(in_focus, captured, refocused)
    return FrameQuality(
        psnr_before=min(psnr(truth, before), BEST_PSNR_DB),
        psnr_after=min(psnr(truth, after), BEST_PSNR_DB),
        ssim_before=ssim(truth, before),
        ssim_after=ssim(truth, after),
    )


def judge(results: Iterable[FrameResult], witness: Witness) -> dict[int, FrameQuality]:
    """Compare every refocused frame whose truth is known with it, by capture number."""
    judged: dict[int, FrameQuality] = {}
    for result in results:
        truth = witness(result.captured.frame) if result.refocused else None
        in_focus = truth.in_focus if truth else None
        if in_focus is not None and in_focus.shape == result.pixels.shape:
            judged[result.captured.frame] = judge_frame(
                result.captured.pixels, result.pixels, in_focus
            )
    return judged


def mean_quality(judged: Mapping[int, FrameQuality]) -> Quality | None:
    """Average over frames; None where nothing was judged."""
    if not judged:
        return None
    rows = [asdict(frame) for frame in judged.values()]
    means = {key: float(np.mean([row[key] for row in rows])) for key in rows[0]}
    return Quality(**means, n=len(rows))


def build_report(
    stats: Stats,
    engine: Mapping[str, Any],
    quality: Quality | None = None,
    plan: Mapping[str, Any] | None = None,
    nothing: str = "",
) -> dict[str, Any]:
    """Give the content of ``report.json``.

    Parameters
    ----------
    stats
        The run's final counts and times.
    engine
        :meth:`refocus.engine.protocol.EngineInfo.describe`.
    quality
        Where the truth is known.
    plan
        What was planned against what came, see :class:`refocus.acquisition.pipeline.plan.Plan`.
    nothing
        Why nothing was refocused; empty where something was.

    Returns
    -------
    dict
        ``frames`` (counts), ``fps``, ``latency_ms`` (capture to publish), ``engine_ms``,
        ``engine`` and, where they are known, ``plan``, ``saved`` (what the files hold), ``nothing``
        and ``quality``.
    """
    report: dict[str, Any] = {
        **stats.report(),
        "frames": {state: getattr(stats, state) for state in STATES},
        "engine": {key: engine[key] for key in ("name", "model", "sha256", "precision")},
    }
    if stats.verdicts:
        report["verdicts"] = dict(stats.verdicts)
    if stats.skipped:
        report["frames"]["skipped"] = stats.skipped
    if stats.unprocessed:
        report["frames"]["unprocessed"] = stats.unprocessed
    if plan is not None:
        report["plan"] = dict(plan)
    if stats.saved:
        report["saved"] = dict(stats.saved)
    if nothing:
        report["nothing"] = nothing
    if quality is not None:
        report["quality"] = {
            key: round(value, 4) if isinstance(value, float) else value
            for key, value in asdict(quality).items()
        }
    return report


def write_report(path: Path, report: Mapping[str, Any]) -> None:
    """Write ``report.json`` in one step: a reader sees all of it or none."""
    text = json.dumps(report, indent=2, allow_nan=False, ensure_ascii=False)
    with replacing(path) as part:
        part.write_text(text + "\n", encoding="utf-8")


def report_lines(report: Mapping[str, Any]) -> Text:
    """Lay a report out for a terminal, however narrow."""
    lines = Text()
    for name, said in _rows(report):
        lines.append(f"{name:18}  ", "dim").append(f"{said}\n")
    lines.rstrip()
    return lines


def _rows(report: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Give what is said of a run; where nothing was refocused, the reason instead of times."""
    frames, latency, engine = report["frames"], report["latency_ms"], report["engine"]
    yield "engine", " ".join(x for x in (engine["name"], engine["precision"]) if x)
    yield "model", f"{engine['model']} {engine['sha256'][:12]}".strip()
    counts = [f"{frames['published']} of {frames['received']} published"]
    counts += [f"{frames[k]} {k}" for k in ("deferred", "dropped", "failed") if frames[k]]
    if frames.get("skipped"):
        counts.append(f"{frames['skipped']} skipped on purpose")
    if frames.get("unprocessed"):
        counts.append(f"{frames['unprocessed']} as captured, as the processor failed")
    yield "frames", ", ".join(counts)
    if plan := report.get("plan"):
        missing = f", {plan['missing']} missing" if plan["missing"] else ""
        yield "planned", f"{plan['received']} of {plan['planned']} came{missing}"
    if saved := report.get("saved"):
        yield "on the disk", ", ".join(_on_disk(*one) for one in saved.items())
    if verdicts := report.get("verdicts"):
        told = ", ".join(f"{count} {name}" for name, count in verdicts.items() if count)
        yield "verdicts", told
    if decided := report.get("decided"):
        yield "decided", ", ".join(f"{count} {what}" for what, count in decided.items())
    if nothing := report.get("nothing"):
        yield "refocused", f"nothing: {nothing}"
        return
    yield "rate", f"{report['fps']:.1f} frames/s"
    yield (
        "capture to publish",
        f"{latency['p50']:.1f} ms median, {latency['p99']:.1f} p99, {latency['max']:.1f} max",
    )
    times = report["engine_ms"]
    yield "in the engine", f"{times['p50']:.1f} ms median, {times['p99']:.1f} p99"
    if quality := report.get("quality"):
        yield "PSNR", f"{quality['psnr_before']:.2f} → {quality['psnr_after']:.2f} dB"
        yield "SSIM", f"{quality['ssim_before']:.3f} → {quality['ssim_after']:.3f}"
        yield "measured over", f"{quality['n']} frames with a reference"


def _on_disk(name: str, file: Mapping[str, Any]) -> str:
    """Say how much of a file can be read."""
    handed = file["received" if name == "raw" else "published"]
    missing = f", {file['missing']} missing" if file["missing"] else ""
    return f"{file['on_disk']} of {handed} {name}{missing}"


def _size(result: FrameResult) -> int:
    return int(result.captured.pixels.nbytes + result.pixels.nbytes)
