"""What leaves is valid, whatever a microscope says of itself."""

import json
import math
from dataclasses import replace

import jsonschema
import numpy as np
import pytest
import useq

from refocus.acquisition.pipeline.sink import RunInfo
from refocus.acquisition.sinks.headers import Made, frame_header, run_header
from refocus.engine.trust.judgement import UNRATED
from refocus.stream.json_schema import build_schema
from refocus.stream.messages import FrameHeader, RunHeader

from .test_publisher import result

NAN, INF, HALF = math.nan, math.inf, "D\udcffPI"


def valid(header, topic):
    text = header.encode().decode()
    content = json.loads(text, parse_constant=pytest.fail)
    jsonschema.validate(content, {**build_schema(), "$ref": f"#/$defs/{topic}"})
    return content


@pytest.mark.parametrize(
    ("odd", "key", "expected"),
    [
        ({"position_um": {"x": 1.0, "z": NAN}}, "position_um", {"x": 1.0}),
        ({"position_um": {"x": "a", "y": -INF}}, "position_um", {}),
        ({"exposure_ms": INF}, "exposure_ms", 0.0),
        ({"exposure_ms": None}, "exposure_ms", 0.0),
        ({"pixel_size_um": NAN}, "pixel_size_um", 0.0),
        ({"bit_depth": 0}, "bit_depth", 1),
        ({"channel": HALF}, "channel", "D\ufffdPI"),
        ({"channel": "\U0001f52c µm"}, "channel", "\U0001f52c µm"),
        ({"camera": "\udcff"}, "camera", "\ufffd"),
        ({"source": "m\udcfcller.tif"}, "source", "m\ufffdller.tif"),
        ({"index": {"t": np.int64(3), HALF: 1}}, "index", {"t": 3, "D\ufffdPI": 1}),
    ],
)
def test_a_frame_whose_metadata_are_odd(odd, key, expected):
    one = result(0)
    one = replace(one, captured=replace(one.captured, **odd))
    header = frame_header("run", one, NAN)
    assert valid(header, "refocus.frame")[key] == expected
    assert FrameHeader.decode(header.encode()) == header


@pytest.mark.parametrize("odd", [NAN, INF, -1.0, 2.0])
def test_a_judgement_of_numbers_that_are_none(odd):
    share = np.full((2, 2), odd, np.float32)
    judgement = replace(
        UNRATED,
        score=odd,
        distance_um=odd,
        sigma_um=odd,
        consistency=odd,
        domain=odd,
        positive_side=odd,
        share=share,
        tile_distance_um=share,
    )
    valid(frame_header("run", replace(result(0), judgement=judgement), 1.0), "refocus.frame")


@pytest.mark.parametrize(
    "metadata",
    [
        {"a": NAN, "b": {1: 2}},
        {"a": HALF, HALF: [INF]},
        {"a": object()},
        {"a": np.arange(3)},
    ],
)
def test_a_run_whose_sequence_and_camera_are_odd(metadata):
    sequence = useq.MDASequence(metadata=metadata, time_plan={"interval": 0, "loops": 3})
    run = RunInfo("run", sequence=sequence, camera=metadata, engine={"card": metadata})
    header = run_header(run, 3)
    valid(header, "refocus.run")
    assert RunHeader.decode(header.encode()).next_number == 3


@pytest.mark.parametrize(
    ("share", "made", "handed_on", "expected"),
    [
        ([1, 1], Made(), False, "refocused"),
        ([1, 1], Made(of_region=True), False, "mixed"),
        ([0, 0], Made(), True, "captured"),
        ([0, 0], Made(of_region=True), False, "captured"),
        ([0, 0], Made(as_trusted=False), False, "refocused"),
        ([0, 1], Made(), False, "mixed"),
        ([0, 1], Made(as_trusted=False), False, "refocused"),
        (None, Made(), False, "refocused"),
        (None, Made(), True, "captured"),
    ],
)
def test_a_header_says_which_pixels_follow(share, made, handed_on, expected):
    one = result(0)
    if share is not None:
        one = replace(one, judgement=replace(UNRATED, share=np.array([share], np.float32)))
    if handed_on:
        one = replace(one, pixels=one.captured.pixels)
    assert frame_header("run", one, 1.0, made).pixels == expected
    assert frame_header("run", replace(one, refocused=False), 1.0, made).pixels == "captured"
