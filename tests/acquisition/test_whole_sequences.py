"""The last frames of a hardware sequence are fetched, however busy the machine is."""

import time

import numpy as np
import pytest

from refocus.acquisition import attach
from refocus.acquisition.whole_sequences import whole_sequences
from refocus.engine.fake import FakeEngine

from ..conftest import loops, zarr_arrays

PATIENCE_S = 20.0


@pytest.fixture
def busy(core, monkeypatch):
    """Give a core whose asker, when no frame waits, is held up until the sequence is over."""
    core.mda.engine.use_hardware_sequencing = True
    waiting, running = core.getRemainingImageCount, core.isSequenceRunning

    def held_up():
        count, until = waiting(), time.monotonic() + PATIENCE_S
        while count == 0 and running() and time.monotonic() < until:
            time.sleep(0.001)
        return count

    monkeypatch.setattr(core, "getRemainingImageCount", held_up)
    return core


def frames_of(core, sequence):
    came = []

    def note(pixels, event):
        came.append(event.index["t"])

    core.mda.events.frameReady.connect(note)
    core.mda.run(sequence)
    core.mda.events.frameReady.disconnect(note)
    return came


def test_every_frame_is_fetched_and_the_core_is_left_as_it_was(busy):
    assert frames_of(busy, loops(6)) == []  # what pymmcore-plus does of itself
    with whole_sequences(busy):
        assert frames_of(busy, loops(6)) == list(range(6))
        assert "isSequenceRunning" not in vars(busy)
    assert "exec_event" not in vars(busy.mda.engine)
    assert frames_of(busy, loops(6)) == []


def test_sequences_behind_one_another_do_not_wait_for_frames_of_before(busy):
    busy.startSequenceAcquisition(3, 0, True)  # somebody's, who never fetched them
    while busy.isSequenceRunning():
        time.sleep(0.001)
    with whole_sequences(busy):
        assert frames_of(busy, loops(3)) == [0, 1, 2]
        assert frames_of(busy, loops(4)) == [0, 1, 2, 3]


def test_a_sequence_that_breaks_off_leaves_the_core_as_it_was(busy):
    with whole_sequences(busy):
        engine = busy.mda.engine
        (event,) = engine.event_iterator(loops(6))
        engine.setup_event(event)
        kept = iter(engine.exec_event(event))  # as a traceback does, where saving failed
        next(kept)
        assert "isSequenceRunning" not in vars(busy)
        busy.mda.engine.use_hardware_sequencing = False  # a snap with frames waiting
        assert frames_of(busy, loops(1)) == [0]
        busy.mda.engine.use_hardware_sequencing = True
        assert frames_of(busy, loops(4)) == [0, 1, 2, 3]
        del kept
        assert frames_of(busy, loops(4)) == [0, 1, 2, 3]


def test_a_cancelled_sequence_ends_with_frames_waiting(busy):
    busy.mda.events.frameReady.connect(lambda *_: busy.mda.cancel())
    with whole_sequences(busy):
        assert frames_of(busy, loops(50)) == [0]
    assert not busy.isSequenceRunning()


def test_an_attached_core_saves_and_refocuses_them_all(busy, tmp_path):
    raw = tmp_path / "raw.ome.zarr"
    with attach(busy, engine=FakeEngine(), raw=raw) as live:
        busy.mda.run(loops(5), output=raw)
    assert (live.stats.received, live.stats.published, live.problems) == (5, 5, {})
    (saved,) = zarr_arrays(raw).values()
    assert np.flatnonzero(saved.any(axis=(1, 2))).tolist() == list(range(5))


def test_an_engine_that_gives_a_list_is_told_of_a_cancel(core):
    engine_gives = core.mda.engine.exec_event
    core.mda.engine.exec_event = lambda event: list(engine_gives(event))
    core.mda.events.frameReady.connect(lambda *_: core.mda.cancel())
    with whole_sequences(core):
        assert frames_of(core, loops(3)) == [0]
