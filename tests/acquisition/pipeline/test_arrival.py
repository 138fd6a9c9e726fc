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
