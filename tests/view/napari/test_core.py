"""What a core of this process acquires, told as a publisher tells it; no Qt in here."""

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import useq

from refocus.acquisition.microscopes.simulated import SimulatedMicroscope
from refocus.acquisition.pipeline.sink import RunInfo
from refocus.acquisition.pipeline.stats import Stats
from refocus.engine.fake import FakeEngine
from refocus.view.caption import of_engine, of_frame, of_stream
from refocus.view.napari.core import AttachedCore, _Note
from refocus.view.places import Wanted


def until(condition: Callable[[], object], seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def stream(core: AttachedCore) -> str:
    _, state = core.state(-1)
    assert state
    return of_stream(state)


@pytest.fixture
def core(microscope: SimulatedMicroscope) -> Any:
    core = AttachedCore(microscope.core, FakeEngine())
    assert core.obstacle == "opening the engine"
    core.start()
    until(lambda: not core.obstacle)
    until(lambda: stream(core) == "the microscope of this napari: no run yet")
    yield core
    core.close()
    until(lambda: not core._thread.is_alive())


def acquire(microscope: SimulatedMicroscope, frames: int, **plans: Any) -> None:
    sequence = useq.MDASequence(time_plan={"interval": 0, "loops": frames}, **plans)
    microscope.core.mda.run(sequence)


def test_the_newest_frame_and_the_accounts(
    core: AttachedCore, microscope: SimulatedMicroscope
) -> None:
    acquire(microscope, 3)
    until(lambda: stream(core).startswith("the run is over, 0 of 2 waiting"))
    shown = core.newest(Wanted())
    assert shown
    header = shown.frame.header
    assert (header.frame, header.bit_depth) == (2, 16)
    assert header.pixel_size_um == pytest.approx(0.656)
    assert of_frame(header).startswith("frame 2")
    np.testing.assert_array_equal(shown.frame.pixels, np.invert(shown.captured))
    for pixels in (shown.captured, shown.frame.pixels):
        with pytest.raises(ValueError, match="read-only"):
            pixels[0, 0] = 0
    _, state = core.state(-1)
    assert state
    assert state["stats"]["frames"]["received"] == 3
    assert of_engine(state) == "none fake exact none"


def test_a_run_stays_over_though_its_counts_are_told_every_second(
    core: AttachedCore, microscope: SimulatedMicroscope
) -> None:
    note = _Note(core)
    note.start(RunInfo("a run"))
    note.tick(Stats("a run"))
    assert stream(core).startswith("running")
    note.close(Stats("a run"))
    note.tick(Stats("a run"))
    assert stream(core).startswith("the run is over")


def test_places_are_kept_apart(core: AttachedCore, microscope: SimulatedMicroscope) -> None:
    fields = [{"x": 0.0, "y": 0.0, "name": "left"}, {"x": 9.0, "y": 0.0, "name": "right"}]
    acquire(microscope, 1, stage_positions=fields)
    until(lambda: stream(core).startswith("the run is over"))
    _, state = core.state(-1)
    assert state
    assert (state["places"]["p"], state["run"]["positions"]) == ([0, 1], ["left", "right"])
    found = [core.newest(Wanted(p=p)) for p in (0, 1)]
    assert [shown.frame.header.frame for shown in found if shown] == [0, 1]


def test_a_core_that_is_let_go_is_no_longer_refocused(microscope: SimulatedMicroscope) -> None:
    core = AttachedCore(microscope.core, FakeEngine())
    core.start()
    until(lambda: not core.obstacle)
    core.close()
    core.close()
    until(lambda: not core._thread.is_alive())
    acquire(microscope, 1)
    assert core.newest(Wanted()) is None


def test_the_live_view_of_a_core(core: AttachedCore, microscope: SimulatedMicroscope) -> None:
    microscope.core.startContinuousSequenceAcquisition(1)
    until(lambda: (shown := core.newest(Wanted())) and shown.frame.header.frame > 2)
    microscope.core.stopSequenceAcquisition()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"engine": "none.onnx"}, "none.onnx: no such model"),
        ({"engine": FakeEngine(), "region": "1,2"}, "give X,Y,WIDTH,HEIGHT in pixels"),
        ({"engine": FakeEngine(), "no_such_option": 1}, "no_such_option"),
    ],
)
def test_what_cannot_be_attached_says_so(
    microscope: SimulatedMicroscope, options: dict[str, Any], said: str
) -> None:
    core = AttachedCore(microscope.core, **options)
    core.start()
    until(lambda: said in core.obstacle)
    until(lambda: not core._thread.is_alive())


def test_only_the_region_is_refocused(microscope: SimulatedMicroscope) -> None:
    core = AttachedCore(microscope.core, FakeEngine(), region="0,0,32,32")
    core.start()
    until(lambda: not core.obstacle)
    acquire(microscope, 1)
    until(lambda: core.newest(Wanted()))
    shown = core.newest(Wanted())
    assert shown
    changed = shown.frame.pixels != shown.captured
    assert changed[:32, :32].any()
    assert not changed[32:].any()
    core.close()
    until(lambda: not core._thread.is_alive())
