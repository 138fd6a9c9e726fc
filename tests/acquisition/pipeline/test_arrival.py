"""A frame is described whatever drivers and other engines say of it."""

import math

import numpy as np
import pytest
import useq

from refocus.acquisition.pipeline.arrival import MDAArrival, RunContext

PIXELS = np.zeros((4, 5), np.uint16)
SAID = {
    "camera_device": "Camera",
    "position": {"x": 1, "y": 2.5, "z": -3},
    "exposure_ms": 10.0,
    "pixel_size_um": 0.65,
    "camera_metadata": {"ImageNumber": "7"},
}


def of_bits(pixel_format, dtype, *values):
    """Give the bit depths of frames that are all of such values, one after another."""
    info = {"camera_label": "Camera", "pixel_format": pixel_format}
    context = RunContext({"image_infos": [info]})
    for value in values:
        pixels = np.full((4, 5), value, dtype)
        yield MDAArrival(context, 0, pixels, useq.MDAEvent(), SAID, 0).describe().bit_depth


@pytest.mark.parametrize(
    ("pixel_format", "dtype", "values", "bits"),
    [
        ("Mono10", np.uint16, (0, 1023, 1024, 65_535, 9), [10, 10, 11, 16, 16]),
        ("Mono12", np.uint16, (4095, 4096, 4095), [12, 13, 13]),
        ("Mono16", np.uint16, (0, 65_535), [16, 16]),
        ("Mono8", np.uint8, (255,), [8]),
        ("odd", np.float32, (3.0, math.nan), [32, 32]),
    ],
)
def test_a_camera_that_is_set_to_more_bits_in_mid_run(pixel_format, dtype, values, bits):
    assert list(of_bits(pixel_format, dtype, *values)) == bits


def described(**odd):
    context = RunContext({"position": {"x": 8.0, "z": 9.0}})
    event = useq.MDAEvent(exposure=10)
    return MDAArrival(context, 0, PIXELS, event, SAID | odd, 0).describe()


@pytest.mark.parametrize(
    ("odd", "field", "expected"),
    [
        ({}, "position_um", {"x": 1.0, "y": 2.5, "z": -3.0}),
        ({"position": {"x": "a", "y": 2, "z": "3"}}, "position_um", {"x": 8.0, "y": 2.0, "z": 3.0}),
        ({"position": {"x": None, "z": math.nan}}, "position_um", {"x": 8.0, "z": 9.0}),
        ({"position": {"x": [1], "y": math.inf}}, "position_um", {"x": 8.0, "z": 9.0}),
        ({"position": "here"}, "position_um", {"x": 8.0, "z": 9.0}),
        ({"position": (1, 2, 3)}, "position_um", {"x": 8.0, "z": 9.0}),
        ({"exposure_ms": "short"}, "exposure_ms", 0.0),
        ({"exposure_ms": None}, "exposure_ms", 0.0),
        ({"exposure_ms": math.nan}, "exposure_ms", 0.0),
        ({"pixel_size_um": math.inf}, "pixel_size_um", 0.0),
        ({"exposure_ms": "12.5"}, "exposure_ms", 12.5),
        ({"pixel_size_um": {}}, "pixel_size_um", 0.0),
        ({"camera_metadata": "none"}, "source", ""),
        ({"camera_metadata": {"ImageNumber": "many"}}, "source", ""),
        ({"camera_device": 3}, "camera", "3"),
        ({"camera_device": None}, "camera", ""),
    ],
)
def test_odd_metadata_cost_what_they_say_and_no_frame(odd, field, expected):
    assert getattr(described(**odd), field) == expected
    MDAArrival(RunContext({"position": "there"}), 0, PIXELS, useq.MDAEvent(), SAID | odd, 0).note()
