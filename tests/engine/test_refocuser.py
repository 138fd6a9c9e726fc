"""What is known of the light path, on its way to the engine."""

import logging
from typing import Any

import numpy as np
import pytest

from refocus.configs import RefocusError
from refocus.configs.light_path import KnownOptics
from refocus.engine.fake import FakeEngine
from refocus.engine.model_file import read_model
from refocus.engine.openvino import OpenVinoEngine
from refocus.engine.protocol import EngineError, LightPath
from refocus.engine.refocuser import Refocuser, not_told
from refocus.engine.shipped import shipped_models

from ..conftest import Listening

FRAME = np.arange(64 * 64, dtype=np.uint16).reshape(64, 64)
TOLD = KnownOptics.model_validate(
    {"na": 0.75, "pixel_size_um": 0.3, "channels": {"DAPI": {"emission_um": 0.46}}}
)


@pytest.mark.parametrize("region", [None, (8, 8, 32, 32)])
def test_an_engine_hears_what_is_told_and_what_is_stated(region: Any) -> None:
    engine = Listening()
    refocuser = Refocuser(engine, region=region, optics=TOLD)
    refocuser.refocus(FRAME)
    refocuser.refocus(FRAME, "DAPI", LightPath(0.3, immersion_index=1.33), position="p1")
    assert engine.heard == [LightPath(0.3, 0.75), LightPath(0.3, 0.75, 1.33, 0.46)]


@pytest.mark.parametrize(
    "region", [(-10, 0, 32, 32), (0, -1, 32, 32), (10, 10, -20, 30), (0, 0, 0, 32), (40, 0, 32, 32)]
)
def test_a_region_that_is_none_is_refused(region: Any) -> None:
    with pytest.raises(EngineError, match="give X,Y,WIDTH,HEIGHT inside it"):
        Refocuser(FakeEngine(), region=region).refocus(FRAME)


@pytest.mark.parametrize(
    ("stated", "says"),
    [
        (LightPath(0.302, 0.75), []),  # as good as the same
        (
            LightPath(0.65, 0.5, 1.0),
            [
                "pixel_size_um: 0.3 as told, though the camera or the file says 0.65",
                "na: 0.75 as told, though the camera or the file says 0.5",
            ],
        ),
        (
            LightPath(0.3, 0.75, 0.7),
            ["immersion_index: not known, though the camera or the file says 0.7"],
        ),
    ],
)
def test_a_contradiction_is_told_once(
    stated: LightPath, says: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    refocuser = Refocuser(FakeEngine(), optics=TOLD)
    with caplog.at_level(logging.WARNING):
        refocuser.warm_up(FRAME.shape, FRAME.dtype, stated)
        for channel in ("", "DAPI", "FITC", "DAPI"):
            refocuser.refocus(FRAME, channel, stated)
    assert caplog.messages == says


@pytest.mark.parametrize(
    ("model", "known", "says"),
    [
        ("refocus-compact", LightPath(0.656), ""),
        ("refocus-compact", LightPath(0.325), "numerical aperture not known: taken for 0.5, for"),
        ("refocus-compact", LightPath(0.325, 0.5), ""),
        ("refocus-compact", LightPath(), "pixel size not known: taken for 0.656 µm, for which"),
        ("any-objective", LightPath(0.325), "numerical aperture not known: any-objective"),
        ("any-objective", LightPath(), "numerical aperture not known: any-objective"),
        ("any-objective", LightPath(0.325, 0.75), ""),
        ("any-objective", LightPath(0.0, 0.75), "pixel size not known: any-objective estimates"),
    ],
)
def test_what_is_taken_for_granted_is_told(model: str, known: LightPath, says: str) -> None:
    _, card = read_model(shipped_models()[model])
    found = not_told(card, known)
    assert found.startswith(says)
    assert bool(found) == bool(says)
    assert ("--pixel-size-um" in found) == bool(says and not known.pixel_size_um)


def test_it_is_told_of_the_frames_that_come_and_once(caplog: pytest.LogCaptureFixture) -> None:
    engine = OpenVinoEngine(shipped_models()["any-objective"], precision="f32")
    told = KnownOptics.model_validate({"pixel_size_um": 0.3, "channels": {"DAPI": {"na": 0.75}}})
    refocuser = Refocuser(engine, optics=told)
    with caplog.at_level(logging.WARNING):
        refocuser.warm_up(FRAME.shape, FRAME.dtype)
        refocuser.refocus(FRAME, "DAPI")
        assert not caplog.messages
        for _ in range(2):
            refocuser.refocus(FRAME, "GFP")
    engine.close()
    (said,) = caplog.messages
    assert said.startswith("numerical aperture not known")


def test_an_aperture_without_a_pixel_size_is_refused_beforehand() -> None:
    refocuser = Refocuser(FakeEngine(), optics=KnownOptics(na=0.5))
    with pytest.raises(RefocusError, match=r"na 0.5 with pixel size 0"):
        refocuser.warm_up(FRAME.shape, FRAME.dtype)
    refocuser.warm_up(FRAME.shape, FRAME.dtype, LightPath(0.3))
    assert refocuser.refocus(FRAME).pixels.shape == FRAME.shape  # a run that has begun goes on
