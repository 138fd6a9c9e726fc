"""Calibrating a model, and judging its verdicts."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image

from refocus.configs import ModelCard, Optics, RefocusError
from refocus.configs.light_path import UNKNOWN
from refocus.engine import EngineError
from refocus.engine.model_file import TRUST_KEY
from refocus.engine.openvino import OpenVinoEngine
from refocus.training import cli
from refocus.training.judging import scorer
from refocus.training.judging.calibrate import (
    JudgedExamples,
    _in_focus_um,
    calibrate,
    least_costly,
)
from refocus.training.judging.hard_sets import HardFrame, calibration_frames, judging_frames
from refocus.training.judging.trust_report import flagged, judge_all, risk_coverage

CARD = ModelCard(
    name="one instrument",
    version="1",
    architecture="compact",
    optics=Optics(),
    defocus_um=(0.3, 34.0),
    training_data="none",
    licence="BSD-3-Clause",
)

FIELDS = ("frames", "gains", "kinds", "tiles", "tile_gains", "claimed_um", "true_um")


@pytest.fixture(scope="module")
def frames() -> list[HardFrame]:
    return list(calibration_frames(CARD, 72, seed=3))


@pytest.fixture(scope="module")
def calibrated(model_file: Path, frames: list[HardFrame], once: Callable[..., Path]) -> Path:
    """Give a network of random weights that knows what it is worth; it is easily told."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scorer, "STEPS", 300)
        return once("calibrated.onnx", lambda path: calibrate(model_file, path, frames, "a test"))


def test_a_calibrated_model_gives_verdicts(calibrated: Path, frames: list[HardFrame]) -> None:
    engine = OpenVinoEngine(calibrated, precision="f32")
    judged = judge_all(engine, frames)
    engine.close()

    assert "unrated" not in {j.judgement.verdict for j in judged}
    assert all(0 <= (j.judgement.score or 0) <= 1 for j in judged)
    # random weights make many frames worse, and that is noticed
    network = np.mean([j.network < j.before - 0.5 for j in judged])
    published = np.mean([j.published < j.before - 0.5 for j in judged])
    assert network > 0.3
    assert published < 0.25 * network


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda text: None, "missing or not valid"),
        (lambda text: "{}", "missing or not valid"),
        (lambda text: text.replace('"feature_radius":', '"feature_radius":1'), "checksum"),
    ],
)
def test_what_verdicts_need_is_checked(
    calibrated: Path, tmp_path: Path, spoil: object, message: str
) -> None:
    model = onnx.load(calibrated)
    entry = next(p for p in model.metadata_props if p.key == TRUST_KEY)
    text = spoil(entry.value)  # type: ignore[operator]
    if text is None:
        model.metadata_props.remove(entry)
    else:
        entry.value = text
    path = tmp_path / "spoiled.onnx"
    onnx.save(model, path)

    with pytest.raises(EngineError, match=message):
        OpenVinoEngine(path)


def test_too_few_frames_are_refused(
    model_file: Path, frames: list[HardFrame], tmp_path: Path
) -> None:
    with pytest.raises(RefocusError, match="too few"):
        calibrate(model_file, tmp_path / "out.onnx", frames[:5], "a test")


def test_a_model_that_is_not_calibrated_has_no_verdicts_to_judge(
    model_file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["refocus-train", "evaluate", str(model_file), "--trust"]
    monkeypatch.setattr("sys.argv", argv)

    with pytest.raises(SystemExit) as stopped:
        cli.main()

    assert stopped.value.code == 2
    assert "refocus-train calibrate" in capsys.readouterr().err


def test_the_report_of_the_verdicts(
    calibrated: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    argv = ["evaluate", str(calibrated), "--trust", "--per-set", "1", "--output", str(tmp_path)]
    monkeypatch.setattr("sys.argv", ["refocus-train", *argv])

    with pytest.raises(SystemExit) as stopped:
        cli.main()

    assert stopped.value.code == 0
    metrics = json.loads((tmp_path / "trust.json").read_text())
    assert metrics["schema"] == "refocus-trust/1"
    assert {"in focus", "+8 µm", "noise only", "phase contrast", "other specimens"} <= set(
        metrics["sets"]
    )
    assert metrics["all"]["frames"] == sum(s["frames"] for s in metrics["sets"].values())
    assert 0 <= metrics["coverage_of_90_percent"] <= 1
    given = sum(sum(row.values()) for row in metrics["confusion"].values())
    assert given == metrics["all"]["frames"]
    found = [row["found"] for row in metrics["calibration"]]
    assert found == sorted(found)
    for picture in ("verdicts.png", "curves.png"):
        with Image.open(tmp_path / picture) as drawn:
            assert drawn.size[0] > 300
    assert "made worse than captured" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("gains", "harm", "first"),
    [
        ([1, 1, 1, 1], 3, 0.2),  # nothing is lost: all are refocused
        ([-1, -1, -1, -1], 3, 1.0),  # nothing is gained: none is
        ([-2, -2, 3, 3], 3, 0.6),
        ([-1, 2, -1, 3], 1, 0.4),
        ([-1, 2, -1, 3], 3, 0.8),  # 2 dB forgone are less than 1 dB lost, three times
        ([-2, 3, 3, -40], 1, 0.4),  # one frame does not outweigh many
    ],
)
def test_trust_begins_where_it_costs_least(gains: list[float], harm: float, first: float) -> None:
    scores = np.array([0.2, 0.4, 0.6, 0.8], np.float32)
    mixed = [2, 0, 3, 1]
    found = least_costly(scores[mixed], np.array(gains, np.float32)[mixed], harm)
    assert found == pytest.approx(first)


def test_hard_sets_are_the_same_every_time_and_cover_every_kind(frames: list[HardFrame]) -> None:
    first, second = (list(judging_frames(CARD, 1, seed=5)) for _ in range(2))

    for a, b in zip(first, second, strict=True):
        assert (a.group, a.kind) == (b.group, b.kind)
        np.testing.assert_array_equal(a.frame, b.frame)
        np.testing.assert_array_equal(a.truth, b.truth)
    drawn = {f.kind for f in frames}
    strangers = {f.kind for f in first if not f.familiar} - {"noise only", "empty"}
    assert not drawn & (strangers - {"phase contrast"}), "judged on what calibration never saw"


def test_figures_of_verdicts(calibrated: Path, frames: list[HardFrame]) -> None:
    engine = OpenVinoEngine(calibrated, precision="f32")
    judged = judge_all(engine, frames[:12])
    engine.close()

    told, curve = flagged(judged), risk_coverage(judged)

    assert told["made_worse"] + told["improved"] <= 12
    assert [row["coverage"] for row in curve] == sorted(row["coverage"] for row in curve)
    assert curve[-1]["coverage"] == 1.0


def test_a_model_of_any_objective_is_calibrated_on_some_of_them() -> None:
    card = CARD.model_copy(update={"sampling": (0.1, 1.2), "aperture": (0.07, 0.98)})
    names = {frame.group for frame in judging_frames(card, 1, seed=5)}
    assert names > {frame.group for frame in judging_frames(CARD, 1, seed=5)}
    assert "40×/0.95, 0.8 µm" in names
    drawn = list(calibration_frames(card, 40, seed=3))
    told = {frame.light_path.na for frame in drawn}
    assert len(told - {0.0}) > 5
    assert any(frame.light_path.believed for frame in drawn)
    assert any(frame.light_path == UNKNOWN for frame in drawn)


def test_stale_light_paths_have_no_say_in_what_is_called_in_focus() -> None:
    claimed = np.array([1.0, 2.0, 3.0, 9.0], np.float32)
    lost, none = np.array([-1.0, 0.5, 0.5, 0.5], np.float32), np.zeros((4, 1, 1), np.float32)
    usual = JudgedExamples(
        none, lost, np.array(["familiar, nuclei"] * 4), none, none[..., 0], claimed, claimed
    )
    kinds = np.array(["stale light path, nuclei"] * 4)
    stale = JudgedExamples(none, lost - 9, kinds, none, none[..., 0], claimed, claimed)
    both = JudgedExamples(
        *(np.concatenate([getattr(e, f) for e in (usual, stale)]) for f in FIELDS)
    )
    assert list(both.usual) == [True] * 4 + [False] * 4
    assert _in_focus_um(both) == _in_focus_um(usual) == 2.0
