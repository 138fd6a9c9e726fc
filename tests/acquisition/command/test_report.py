"""What a run reports: exactly the keys that others read, and quality where the truth is known."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from refocus.acquisition.command import cli
from refocus.acquisition.command.report import (
    BEST_PSNR_DB,
    Album,
    Quality,
    build_report,
    judge,
    judge_frame,
    mean_quality,
    report_lines,
    write_report,
)
from refocus.acquisition.microscopes.scene import Truth
from refocus.acquisition.pipeline.frame import CapturedFrame, FrameResult
from refocus.acquisition.pipeline.sink import RunInfo
from refocus.acquisition.pipeline.stats import Stats, Timing
from refocus.configs.command import run_command
from refocus.engine.fake import FakeEngine
from refocus.optics.images import list_images, read_image
from refocus.optics.metrics import gtn, psnr, ssim

STATS = Stats(
    received=10,
    published=7,
    dropped=2,
    failed=1,
    fps=12.34567,
    latency_ms=Timing(1.0, 2.0, 3.00004),
    engine_ms=Timing(0.5, 0.9, 1.0),
)
ENGINE = FakeEngine().info.describe()


def result(frame: int, pixels: NDArray[Any] | None = None, refocused: bool = True) -> FrameResult:
    pixels = np.full((64, 64), frame, np.uint16) if pixels is None else pixels
    captured = CapturedFrame(pixels, frame, "2025-01-01T00:00:00.000000+00:00", 0)
    return FrameResult(captured, pixels, refocused, frame, 0.0, 0.0)


def sharp(seed: int = 0) -> NDArray[np.uint16]:
    return np.random.default_rng(seed).integers(100, 4000, (64, 64)).astype(np.uint16)


def test_a_report_has_exactly_the_keys_that_others_read(tmp_path: Path) -> None:
    quality = Quality(20.0, 25.123456, 0.5, 0.75, n=10)
    path = tmp_path / "new folder" / "r.json"
    write_report(path, build_report(STATS.check(), ENGINE, quality))
    assert json.loads(path.read_text()) == {
        "frames": {"received": 10, "published": 7, "deferred": 0, "dropped": 2, "failed": 1},
        "fps": 12.346,
        "latency_ms": {"p50": 1.0, "p99": 2.0, "max": 3.0},
        "engine_ms": {"p50": 0.5, "p99": 0.9},
        "engine": {"name": "fake", "model": "none", "sha256": "", "precision": "exact"},
        "quality": {
            "psnr_before": 20.0,
            "psnr_after": 25.1235,
            "ssim_before": 0.5,
            "ssim_after": 0.75,
            "n": 10,
        },
    }
    assert [p.name for p in path.parent.iterdir()] == ["r.json"]


def test_without_truth_there_is_no_quality() -> None:
    assert "quality" not in build_report(Stats(), ENGINE)
    assert mean_quality({}) is None


def test_a_frame_is_judged_on_the_scale_of_its_truth() -> None:
    truth, before = sharp(), sharp(1)
    judged = judge_frame(before, truth, truth)
    scaled, other = gtn(truth, before)
    assert judged.psnr_before == pytest.approx(psnr(scaled, other))
    assert judged.ssim_before == pytest.approx(ssim(scaled, other))
    assert (judged.psnr_after, judged.ssim_after) == (BEST_PSNR_DB, pytest.approx(1.0))


def test_only_refocused_frames_with_a_truth_are_judged() -> None:
    truth = sharp()
    known = {
        0: Truth(0, 5.0, truth),
        1: Truth(1, None, None),
        3: Truth(3, 1.0, truth),
        4: Truth(4, 1.0, truth[:32]),
    }
    results = [result(i, sharp(i), refocused=i != 3) for i in range(5)]
    judged = judge(results, known.get)
    assert list(judged) == [0]
    quality = mean_quality(judged)
    assert quality is not None
    assert quality.n == 1


def test_the_do_nothing_row_of_real_pairs_is_the_published_one(shared_data: Path) -> None:
    pairs = shared_data / "bbbc006_pairs"
    captured = [read_image(path) for path in list_images(pairs / "defocus_mid")]
    truths = [read_image(path) for path in list_images(pairs / "infocus")]
    results = [result(i, pixels) for i, pixels in enumerate(captured)]
    quality = mean_quality(judge(results, lambda i: Truth(i, None, truths[i])))
    assert quality is not None
    assert quality.n == 28
    assert quality.psnr_before == pytest.approx(28.5, abs=0.15)
    assert quality.ssim_before == pytest.approx(0.870, abs=0.005)


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize(("frames", "limit"), [(5, 100), (100, 16), (1000, 7), (3, 1)])
def test_an_album_stays_small_and_spreads_over_the_run(
    frames: int, limit: int, known: bool
) -> None:
    each = 2 * 64 * 64 * 2
    album = Album(limit_bytes=limit * each, frames=frames if known else 0)
    album.start(RunInfo("run"))
    most = 0
    for frame in range(frames):
        album.put(result(frame))
        most = max(most, len(album.results))
    assert most <= max(limit, 1)
    kept = [r.captured.frame for r in album.results]
    assert kept[0] == 0
    assert len(set(np.diff(kept).tolist())) <= 1  # evenly
    if frames > limit > 1:
        assert len(kept) >= limit // 2
    if known:
        assert most == len(kept)  # none was kept in vain
    album.start(RunInfo("another"))
    assert not album.results


def test_the_table_says_what_was_lost() -> None:
    raw = {"received": 10, "on_disk": 8, "missing": 2}
    report = build_report(
        replace(STATS, saved={"raw": raw}), ENGINE, Quality(20.0, 25.0, 0.5, 0.75, n=10)
    )
    text = report_lines(report).plain
    for expected in (
        "7 of 10 published, 2 dropped, 1 failed",
        "20.00 → 25.00 dB",
        "12.3 frames/s",
        "8 of 10 raw, 2 missing",
    ):
        assert expected in text
    assert "deferred" not in text


def test_the_table_of_a_run_without_a_result_has_the_reason_instead_of_times() -> None:
    report = build_report(replace(STATS, published=0), ENGINE, nothing="planes of z-stacks")
    assert report["nothing"] == "planes of z-stacks"
    text = report_lines(report).plain
    assert "nothing: planes of z-stacks" in text
    assert "frames/s" not in text


def test_what_was_decided_of_the_frames_is_in_the_report_and_the_table(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """With an engine that judges nothing, every frame is left as it is."""
    report = tmp_path / "r.json"
    demo = "run --demo --engine fake --size 64 --frames 2 --reimage 1s --report"
    assert run_command(cli.app, "", arguments=[*demo.split(), str(report)]) == 0
    assert json.loads(report.read_text(encoding="utf-8"))["decided"] == {"leave": 2}
    assert re.search(r"^decided +2 leave", capfd.readouterr().out, re.MULTILINE)
