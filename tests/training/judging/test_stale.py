"""Frames that are shown for a light path which is no longer theirs."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from refocus.engine.model_file import read_model
from refocus.engine.openvino import OpenVinoEngine
from refocus.engine.shipped import shipped_models
from refocus.training.judging.hard_sets import HardFrame, calibration_frames
from refocus.training.judging.stale import STALE, stale_frames


def test_they_are_familiar_frames_for_the_blur_of_another() -> None:
    path = shipped_models()["any-objective"]
    drawn = list(calibration_frames(read_model(path)[1], 24, seed=5))
    drawn[:6] = [replace(frame, distance_um=0.0) for frame in drawn[:6]]
    engine = OpenVinoEngine(path, precision="f32")
    stale = stale_frames(engine, drawn, 0)
    again = stale_frames(engine, drawn, 0)
    assert engine.sight is not None
    likely = {id(f.frame): engine.sight.likely(f.frame, f.light_path) for f in drawn}
    engine.close()

    familiar = {id(f.frame): f for f in drawn if f.familiar}
    in_focus = [f for f in familiar.values() if f.distance_um == 0]
    assert in_focus
    assert len(in_focus) < len(stale) < len(familiar)
    assert {id(f.frame) for f in stale} >= {id(f.frame) for f in in_focus}
    assert [f.light_path for f in stale] == [f.light_path for f in again]
    blurs = {(b.radius, b.spherical) for pair in likely.values() for b in pair}
    for frame in stale:
        assert (frame.group, frame.familiar) == (STALE, False)
        mine = likely[id(frame.frame)][0]
        for blur in frame.light_path.believed:
            assert (blur.radius, blur.spherical) in blurs
            assert (blur.sampling, blur.aperture) == (mine.sampling, mine.aperture)
    others = [f.light_path.believed[0].radius != likely[id(f.frame)][0].radius for f in stale]
    assert np.mean(others) > 0.5


def test_a_network_that_sees_the_frame_alone_is_shown_none(model_file: Path) -> None:
    pixels = np.zeros((8, 8), np.uint16)
    frames = [HardFrame("familiar", "nuclei", 0.0, pixels, pixels)]
    engine = OpenVinoEngine(model_file, precision="f32")
    assert stale_frames(engine, frames, 0) == []
    engine.close()
