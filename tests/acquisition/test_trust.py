"""Verdicts on their way: from the engine to what is published, counted and written down."""

import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from useq import MDASequence

from refocus.acquisition import Selection, attach
from refocus.acquisition.microscopes.simulated import SimulatedMicroscope
from refocus.acquisition.pipeline.frame import CapturedFrame, FrameResult
from refocus.acquisition.sinks.headers import frame_header, tiles_of
from refocus.acquisition.sinks.recorder import Recorder
from refocus.configs import Optics, RefocusError
from refocus.configs.trust import Verdict
from refocus.engine.fake import FakeEngine
from refocus.engine.openvino import OpenVinoEngine
from refocus.engine.protocol import UNKNOWN, Frame, LightPath, Ticket
from refocus.engine.refocuser import Refocuser
from refocus.engine.shipped import default_model
from refocus.engine.trust.judgement import Judgement
from refocus.optics.camera import CameraModel
from refocus.optics.defocus import defocus
from refocus.optics.specimens import nuclei
from refocus.stream.messages import FrameHeader


class Doubtful(FakeEngine):
    """Inverts frames, and has a verdict of every one."""

    def __init__(self, *verdicts: Verdict) -> None:
        super().__init__()
        self._verdicts = verdicts

    def submit(self, frame: Frame, light_path: LightPath = UNKNOWN) -> Ticket:
        verdict = self._verdicts[self.calls % len(self._verdicts)]
        trusted = np.full((1, 1), float(verdict == "refocused"), np.float32)
        judgement = Judgement(verdict, 0.25, 7.5, 0.8, 1.5, 2.5, trusted)
        ticket = super().submit(frame)
        return lambda: replace(ticket(), judgement=judgement)


def captured() -> CapturedFrame:
    pixels = np.random.default_rng(0).integers(100, 4000, (64, 64)).astype(np.uint16)
    return CapturedFrame(pixels, 0, "2025-01-01T00:00:00+00:00", 0)


@pytest.fixture
def captured_nuclei() -> CapturedFrame:
    rng = np.random.default_rng(0)
    light = defocus(nuclei((192, 256), rng) * 2000 + 100, Optics(), 8.0)
    pixels = CameraModel().expose(light, rng)
    return CapturedFrame(pixels, 0, "2025-01-01T00:00:00+00:00", 0)


@pytest.mark.parametrize("on_distrust", ["captured", "refocused"])
@pytest.mark.parametrize("verdict", ["refocused", "in-focus", "beyond", "unfamiliar"])
def test_what_is_published(verdict: Verdict, on_distrust: Any) -> None:
    frame = captured()

    done = Refocuser(Doubtful(verdict), {}, on_distrust=on_distrust).refocus(frame.pixels)

    trusted = verdict == "refocused" or on_distrust == "refocused"
    np.testing.assert_array_equal(done.pixels, np.invert(frame.pixels) if trusted else frame.pixels)
    assert done.judgement.verdict == verdict


def test_a_region_is_judged_by_itself() -> None:
    frame = captured()

    done = Refocuser(Doubtful("unfamiliar"), {}, (8, 8, 32, 32)).refocus(frame.pixels)

    np.testing.assert_array_equal(done.pixels, frame.pixels)


def test_a_model_without_trust_is_unrated_and_says_so_once(
    model_file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from refocus.engine import open_engine

    engine = open_engine(model_file)
    refocuser = Refocuser(engine, {})
    with caplog.at_level(logging.WARNING, "refocus"):
        judged = [refocuser.refocus(captured().pixels).judgement for _ in range(2)]
    engine.close()

    assert [j.verdict for j in judged] == ["unrated", "unrated"]
    told = [r.getMessage() for r in caplog.records if "unrated" in r.getMessage()]
    assert len(told) == 1
    assert "refocus-train calibrate" in told[0]


def test_a_frame_that_is_resampled_is_unrated_just_as_loudly(
    model_file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from refocus.engine import open_engine

    engine = open_engine(model_file)
    with caplog.at_level(logging.WARNING, "refocus"):
        judgement = (
            Refocuser(engine).refocus(captured().pixels, light_path=LightPath(1.3)).judgement
        )
    engine.close()

    assert judgement.verdict == "unrated"
    assert any("results are unrated" in r.getMessage() for r in caplog.records)


def test_verdicts_are_counted_published_and_written(
    microscope: SimulatedMicroscope, tmp_path: Path
) -> None:
    recorder = Recorder(tmp_path / "refocused.ome.zarr")
    sequence = MDASequence(time_plan={"interval": 0, "loops": 6})
    engine = Doubtful("refocused", "unfamiliar", "in-focus")

    with attach(microscope.core, engine=engine, sinks=[recorder], throttle=True) as live:
        microscope.core.run_mda(sequence)
    stats = live.stats.check()

    assert stats.published == 6
    assert stats.verdicts == {"refocused": 2, "unfamiliar": 2, "in-focus": 2}
    found = json.loads((tmp_path / "refocused.ome.zarr" / "zarr.json").read_text())
    rows = found["attributes"]["ome_writers"]["frame_metadata"]
    assert [r["trust"]["verdict"] for r in rows] == ["refocused", "unfamiliar", "in-focus"] * 2
    assert rows[0]["focus"] == {"distance_um": 7.5, "sigma_um": 0.8, "positive_side": None}


def test_the_header_says_what_the_judgement_does() -> None:
    frame = captured()
    done = Refocuser(Doubtful("beyond")).refocus(frame.pixels)
    result = FrameResult(frame, done.pixels, True, 0, 0.0, 1.0, done.engine, done.judgement)

    header = FrameHeader.decode(frame_header("run", result, 2.0).encode())

    assert header.focus is not None
    assert header.trust is not None
    assert (header.focus.distance_um, header.focus.sigma_um) == (7.5, 0.8)
    assert header.trust.model_dump() == {
        "verdict": "beyond",
        "share": 0.0,
        "score": 0.25,
        "consistency": 1.5,
        "domain": 2.5,
    }


def test_the_header_says_where_in_the_frame() -> None:
    distance = np.array([[1.04, 2.0, 3.0], [4.0, 5.0, 6.26]], np.float32)
    share = np.array([[0, 0.5, 1], [1, 1, 1]], np.float32)
    judgement = Judgement(
        "refocused", 0.9, 3.5, 0.5, 1.0, 0.5, share, 48.0, tile_distance_um=distance
    )

    tiles = tiles_of(judgement)

    assert tiles is not None
    assert (tiles.side_px, tiles.rows, tiles.columns) == (48.0, 2, 3)
    assert tiles.distance_um == [1.0, 2.0, 3.0, 4.0, 5.0, 6.3]
    assert tiles.share_percent == [0, 50, 100, 100, 100, 100]


def test_a_region_has_no_tiles_of_the_frame(captured_nuclei: CapturedFrame) -> None:
    with_network = OpenVinoEngine(default_model(), precision="f32")
    try:
        whole, region = (
            tiles_of(Refocuser(with_network, {}, part).refocus(captured_nuclei.pixels).judgement)
            for part in (None, (64, 64, 64, 64))
        )
    finally:
        with_network.close()
    assert whole is not None
    assert (whole.rows, whole.columns) == (3, 4)
    assert region is None


def test_an_unknown_way_to_distrust_is_refused() -> None:
    with pytest.raises(
        RefocusError, match="on_distrust: input should be 'captured' or 'refocused'"
    ):
        Selection(on_distrust="both")  # type: ignore[arg-type]
