"""What a sequence can do besides running from its first event to its last."""

import queue
import threading

import numpy as np
import pytest
import useq
from pymmcore_plus.mda import MDAEngine, SkipEvent

from refocus.acquisition import attach
from refocus.acquisition.sinks.recorder import Recorder
from refocus.engine.fake import FakeEngine

from ..conftest import loops, zarr_arrays

STOP = object()


@pytest.fixture
def core(microscope):
    microscope.core.mda.engine.use_hardware_sequencing = False
    return microscope.core


def test_events_that_are_decided_on_as_it_runs(core, keep):
    """Each next event is made from the last result: feedback on the refocused frame."""
    events = queue.Queue()

    class Deciding(type(keep)):
        def put(self, result):
            super().put(result)
            more = len(self.results) < 5
            events.put(useq.MDAEvent(index={"t": len(self.results)}) if more else STOP)

    deciding = Deciding()
    events.put(useq.MDAEvent(index={"t": 0}))
    with attach(core, engine=FakeEngine(), sinks=[deciding]) as live:
        core.run_mda(iter(events.get, STOP))
    assert live.stats.check().published == 5
    assert [result.captured.index["t"] for result in deciding.results] == list(range(5))


@pytest.mark.parametrize("saved", [True, False])
def test_an_engine_that_gives_two_frames_for_an_event(core, tmp_path, saved):
    """The second has no place: it is refused, and does not take that of the first."""
    engine, given = core.mda.engine, []

    def exec_event(event):
        for _ in range(2):
            for payload in type(engine).exec_event(engine, event):
                given.append(payload[0])
                yield payload

    engine.exec_event = exec_event
    recorder, raw = Recorder(tmp_path / "refocused.ome.zarr"), tmp_path / "raw.ome.zarr"
    sequence = loops(3, channels=["DAPI", {"config": "FITC", "acquire_every": 3}])
    with attach(
        core, engine=FakeEngine(), sinks=[recorder], raw=raw if saved else None, queue=16
    ) as live:
        core.mda.run(sequence, output=raw)
    stats = live.stats.check()
    assert (stats.published, stats.failed) == (4, 4)
    assert any("the sequence has no place" in text for text in live.problems)
    (recorded,) = zarr_arrays(recorder.path).values()
    np.testing.assert_array_equal(recorded, [np.invert(pixels) for pixels in given[::2]])
    assert stats.saved["refocused"]["missing"] == 0


def test_a_blocked_iterable_ends_with_cancel_and_stop(core, keep):
    events, arrived = queue.Queue(), threading.Event()
    core.mda.events.frameReady.connect(lambda *frame: arrived.set())
    with attach(core, engine=FakeEngine(), sinks=[keep]) as live:
        core.run_mda(iter(events.get, STOP))
        events.put(useq.MDAEvent())
        assert arrived.wait(10)
        core.mda.cancel()
        events.put(STOP)
    assert live.stats.check().published == 1


def test_a_pause_and_a_cancel(core, keep):
    arrived = threading.Semaphore(0)
    core.mda.events.frameReady.connect(lambda *frame: arrived.release())
    with attach(core, engine=FakeEngine(), sinks=[keep], queue=64) as live:
        core.run_mda(useq.MDASequence(time_plan={"interval": 0.02, "loops": 500}))
        for _ in range(3):
            assert arrived.acquire(timeout=10)
        core.mda.set_paused(True)
        assert not live.wait(0.1)  # a paused acquisition is not over
        core.mda.set_paused(False)
        assert arrived.acquire(timeout=10)
        core.mda.cancel()
    stats = live.stats.check()
    assert 4 <= stats.published == stats.received < 500
    assert len(keep.closed) == 1


def test_autofocus_events_are_no_frames(core, keep, tmp_path, monkeypatch):
    """They shift nothing, succeed or not."""
    sequence = loops(
        3,
        stage_positions=[(0, 0, 0), (50, 0, 0)],
        autofocus_plan={"autofocus_motor_offset": 1.0, "axes": ("p",)},
    )
    assert any(isinstance(e.action, useq.HardwareAutofocus) for e in sequence)
    setup = MDAEngine.setup_event

    def failing(self, event):
        if isinstance(event.action, useq.HardwareAutofocus):
            raise SkipEvent(num_frames=0)
        setup(self, event)

    monkeypatch.setattr(MDAEngine, "setup_event", failing)
    recorder = Recorder(tmp_path / "refocused.ome.zarr")
    with attach(core, engine=FakeEngine(), sinks=[keep, recorder], queue=9) as live:
        core.mda.run(sequence, output=tmp_path / "raw.ome.zarr")
    assert live.stats.check().published == 6
    raw, refocused = (zarr_arrays(tmp_path / f"{kind}.ome.zarr") for kind in ("raw", "refocused"))
    for position in raw:
        assert raw[position].any(axis=(1, 2)).all()
        np.testing.assert_array_equal(np.invert(raw[position]), refocused[position])


def test_a_position_that_is_skipped_leaves_a_gap(core, keep, tmp_path, monkeypatch):
    sequence = loops(3)
    setup = MDAEngine.setup_event

    def failing(self, event):
        if event.index.get("t") == 1:
            raise SkipEvent(num_frames=1)
        setup(self, event)

    monkeypatch.setattr(MDAEngine, "setup_event", failing)
    recorder = Recorder(tmp_path / "refocused.ome.zarr")
    with attach(core, engine=FakeEngine(), sinks=[keep, recorder], queue=9) as live:
        core.mda.run(sequence, output=tmp_path / "raw.ome.zarr")
    assert live.stats.check().published == 2
    (raw,), (refocused,) = (
        zarr_arrays(tmp_path / f"{kind}.ome.zarr").values() for kind in ("raw", "refocused")
    )
    for t in (0, 2):
        np.testing.assert_array_equal(np.invert(raw[t]), refocused[t])
    assert not raw[1].any()
    assert not refocused[1].any()


def test_two_sequences_back_to_back_while_the_first_still_drains(core, keep):
    with attach(core, engine=FakeEngine(0.01), sinks=[keep], queue=30) as live:
        for _ in range(2):
            core.mda.run(loops(10))
    assert [stats.published for stats in keep.closed] == [10, 10]
    assert live.stats.check().published == 10
