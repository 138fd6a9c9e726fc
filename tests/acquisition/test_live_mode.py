"""The live view: peeked at, never taken from."""

import time

import numpy as np
import pytest

from refocus.acquisition import attach
from refocus.acquisition.microscopes.simulated import SimulatedMicroscope
from refocus.acquisition.pipeline.arrival import RunContext
from refocus.engine.fake import FakeEngine

from ..conftest import loops


def until(condition, seconds=20.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


@pytest.fixture
def microscope():
    with SimulatedMicroscope(frame_shape=(64, 96), fps=100) as microscope:
        yield microscope


def test_every_frame_of_the_view_comes_at_most_once_and_all_previews_go_on(microscope, keep):
    core = microscope.core
    core.setExposure(5)
    with attach(core, engine=FakeEngine(), sinks=[keep]) as live:
        core.startContinuousSequenceAcquisition()
        until(lambda: len(keep.results) >= 10)
        waiting = core.getRemainingImageCount()
        core.setROI(8, 8, 48, 40)  # in the middle of it
        core.setExposure(8)
        until(lambda: any(r.captured.exposure_ms == 8 for r in keep.results))
        assert core.getRemainingImageCount() >= waiting or waiting > 1000  # nothing was taken
        core.stopSequenceAcquisition()
        assert live.wait(20)
        stats = live.stats.check()
        assert stats.received == stats.published + stats.dropped
        assert stats.capacity == 2
    captures = [r.captured.pixels.tobytes() for r in keep.results]
    assert len(set(captures)) == len(captures)
    assert [r.captured.frame for r in keep.results] == sorted(
        r.captured.frame for r in keep.results
    )
    first = keep.results[0].captured
    assert (first.camera, first.exposure_ms, first.bit_depth) == ("Camera", 5, 16)
    assert first.pixel_size_um == core.getPixelSizeUm()
    shapes = [r.pixels.shape for r in keep.results]
    assert (shapes[0], shapes[-1]) == ((64, 96), (40, 48))
    (run,) = keep.runs
    assert (run.sequence, run.camera["width"]) == (None, 96)
    for result in keep.results:
        np.testing.assert_array_equal(result.pixels, np.invert(result.captured.pixels))


def test_each_time_it_is_switched_on_is_a_run_and_a_sequence_is_left_to_the_hook(microscope, keep):
    core = microscope.core
    with attach(core, engine=FakeEngine(), sinks=[keep], queue=9) as live:
        for number in range(2):
            core.startContinuousSequenceAcquisition()
            until(lambda number=number: len(keep.runs) == number + 1 and live.stats.published)
            core.stopSequenceAcquisition()
            assert live.wait(20)
        core.mda.run(loops(5))
        assert live.wait(20)
        assert live.stats.check().published == 5
    assert len(keep.runs) == len(keep.closed) == 3
    assert all(stats.published for stats in keep.closed)


def test_a_view_that_is_on_goes_on_when_others_are_waited_for(microscope, keep):
    core = microscope.core
    with attach(core, engine=FakeEngine(), sinks=[keep]) as live:
        core.startContinuousSequenceAcquisition()
        until(lambda: keep.results)
        assert live.wait(20)
        seen = len(keep.results)
        until(lambda: len(keep.results) >= seen + 5)
        core.stopSequenceAcquisition()
        assert live.wait(20)
    assert len(keep.runs) == 1


def test_detaching_leaves_the_view_on(microscope, keep):
    core = microscope.core
    live = attach(core, engine=FakeEngine(), sinks=[keep])
    core.startContinuousSequenceAcquisition()
    until(lambda: keep.results)
    live.detach()
    assert core.isSequenceRunning()
    seen = len(keep.results)
    core.stopSequenceAcquisition()
    assert len(keep.results) == seen
    live.stats.check()


@pytest.mark.parametrize(
    ("numbers", "gaps"),
    [([], 0), ([0, 1, 2], 0), ([0, 2, 5], 3), ([3, 3, 4], 0), ([7, 8, 0, 1, 3], 1), (["x"], 0)],
)
def test_frames_that_the_camera_numbered_and_never_gave_are_counted(numbers, gaps):
    context = RunContext({})
    for number in numbers:
        context.count("Camera", {"ImageNumber": number})
        context.count("Camera 2", {})
    assert context.camera_gaps == gaps


@pytest.mark.parametrize(
    ("take", "name"),
    [
        (lambda core: core.snap(), "snap()"),
        (lambda core: core.startSequenceAcquisition(3, 0, True), "startSequenceAcquisition()"),
    ],
    ids=["snap", "sequence"],
)
def test_pictures_that_are_not_refocused_are_told_of_once(microscope, keep, take, name, caplog):
    core = microscope.core
    with attach(core, engine=FakeEngine(), sinks=[keep]) as live:
        for _ in range(2):
            take(core)
            while core.isSequenceRunning():
                time.sleep(0.01)
        assert live.stats.received == 0
        told = [r.getMessage() for r in caplog.records if "not refocused" in r.getMessage()]
        assert len(told) == 1
        assert told[0].startswith(f"{name}: its pictures")
        core.mda.run(loops(2))  # a software-timed acquisition snaps, too
    assert live.stats.check().published == 2
    assert len([r for r in caplog.records if "not refocused" in r.getMessage()]) == 1
