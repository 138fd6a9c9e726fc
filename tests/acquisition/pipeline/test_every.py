"""The policy ``every``: at the end each raw frame has its refocused partner."""

import json
import threading
import time

import numpy as np
import pytest
import useq

from refocus.acquisition import attach
from refocus.acquisition.microscopes.simulated import SimulatedMicroscope
from refocus.acquisition.pipeline.arrival import blank, sample
from refocus.acquisition.pipeline.deferred import Deferred, DeferredFrames
from refocus.acquisition.pipeline.frame import CapturedFrame
from refocus.acquisition.pipeline.pipeline import Pipeline, RunInfo
from refocus.acquisition.pipeline.queue import Task
from refocus.acquisition.pipeline.raw_data import RawZarr
from refocus.acquisition.sinks.recorder import Recorder
from refocus.configs import RefocusError
from refocus.engine.fake import FakeEngine

from ...conftest import Gated, loops, zarr_arrays


class Memory:
    """Raw frames in a dictionary, by place; some of them not there yet."""

    def __init__(self, late=()):
        self.frames, self.late, self.asked = {}, set(late), []

    def start(self, run):
        self.run = run

    def read(self, frame):
        self.asked.append(frame.place)
        return None if frame.place in self.late else self.frames.get(frame.place)


def captured(number, shape=(40, 40)):
    rng = np.random.default_rng(number)
    return CapturedFrame(
        pixels=rng.integers(0, 65_535, shape, np.uint16),
        frame=number,
        captured_utc="now",
        captured_ns=time.perf_counter_ns(),
        index={"t": number},
        channel="DAPI",
        position_um={"z": 1.0},
    )


def acquire(frames, raw, engine=None, sinks=(), **settings):
    """One run whose frames all come while the engine is busy with the first."""
    gate = threading.Event()
    engine = engine or Gated(gate, free=0)
    pipeline = Pipeline(engine, sinks, policy="every", raw=raw, **settings)
    run = pipeline.start(RunInfo("run"))
    for frame in frames:
        raw.frames[frame.frame] = frame.pixels
        pipeline.submit(frame)
        until = time.monotonic() + 10
        while frame.frame == 0 and pipeline.stats().queued and time.monotonic() < until:
            time.sleep(0.001)  # the engine has to have the first, or others are not deferred
        pipeline.stats().check()
    return pipeline, run, gate


def test_deferred_frames_come_back_in_order_and_are_all_refocused(keep):
    raw = Memory()
    frames = [captured(number) for number in range(30)]
    pipeline, run, gate = acquire(frames, raw, sinks=[keep], capacity=4)
    before = pipeline.stats().check()
    assert before.deferred >= 25
    assert before.in_flight <= 5  # memory is bounded by the queue
    assert (before.alarm, before.alarms_full, before.peak) == ("full", 1, 4)
    gate.set()
    assert pipeline.close()
    stats = pipeline.stats().check()
    assert (stats.received, stats.published, stats.deferred, stats.dropped) == (30, 30, 0, 0)
    assert [result.number for result in keep.results] == list(range(30))
    come = [result.captured.frame for result in keep.results]
    assert sorted(come) == list(range(30))
    assert come[-25:] == sorted(come[-25:])  # those deferred, the oldest first
    for result in keep.results:
        original = frames[result.captured.frame]
        np.testing.assert_array_equal(result.captured.pixels, original.pixels)
        np.testing.assert_array_equal(result.pixels, np.invert(original.pixels))
        assert result.captured.channel == "DAPI"
        assert result.captured.captured_ns == original.captured_ns
    assert not keep.skipped
    assert not run.problems


def test_a_frame_that_is_not_on_the_disk_yet_is_waited_for(keep):
    raw = Memory(late={1})
    pipeline, run, gate = acquire(map(captured, range(8)), raw, sinks=[keep], capacity=2)
    raw.frames[2] = np.zeros((40, 40), np.uint16)  # an empty place: not written yet, either
    gate.set()
    pipeline.finish()
    while raw.asked.count(1) < 3:
        time.sleep(0.01)
    assert pipeline.stats().check().deferred > 0
    raw.late.clear()
    raw.frames[2] = captured(2).pixels
    assert pipeline.close()
    assert pipeline.stats().check().published == 8
    assert not run.problems


def test_a_frame_that_never_reaches_the_disk_fails_and_is_told(keep, monkeypatch):
    monkeypatch.setattr("refocus.acquisition.pipeline.worker.RAW_PATIENCE_S", 0.01)
    raw = Memory(late={2, 3})
    pipeline, run, gate = acquire(map(captured, range(8)), raw, sinks=[keep], capacity=2)
    gate.set()
    assert pipeline.close()
    stats = pipeline.stats().check()
    assert (stats.published, stats.failed, stats.deferred) == (6, 2, 0)
    assert [frame for frame, _ in keep.skipped] == [2, 3]
    assert any("see that they are saved" in problem for problem in run.problems)


def test_giving_up_leaves_nothing_owed(keep):
    pipeline, _, gate = acquire(map(captured, range(9)), Memory(), sinks=[keep], capacity=2)
    assert not pipeline.close(timeout=0.05)
    stats = pipeline.stats().check()
    assert (stats.deferred, stats.in_flight, stats.published) == (0, 0, 0)
    assert stats.dropped + stats.failed == 9
    gate.set()
    assert pipeline.close(5)


def test_without_raw_data_it_is_refused(microscope):
    with pytest.raises(RefocusError, match=r"policy 'every': needs the raw data .*--save DIR"):
        attach(microscope.core, engine=FakeEngine(), policy="every")
    assert len(microscope.core.mda.events.frameReady) == 0


@pytest.mark.parametrize(
    ("asked", "saved", "policy"),
    [(None, True, "every"), (None, False, "newest"), ("newest", True, "newest")],
)
def test_it_is_the_policy_of_what_is_saved(microscope, tmp_path, asked, saved, policy):
    raw = tmp_path / "raw.ome.zarr" if saved else None
    with attach(microscope.core, engine=FakeEngine(), policy=asked, raw=raw) as live:
        microscope.core.mda.run(loops(2), output=raw)
    assert live.run.policy == policy
    assert live.stats.check().published == 2


SEQUENCES = {
    "time-lapse": loops(24),
    "positions": loops(6, stage_positions=[(0, 0), (50, 0)], channels=["DAPI", "FITC"]),
    "mere events": None,
}


@pytest.mark.parametrize("name", SEQUENCES)
def test_every_saved_frame_gets_its_partner(tmp_path, name, keep):
    """Through a real acquisition: saved by it, read back while it runs and afterwards."""
    events = SEQUENCES[name] or iter([useq.MDAEvent(index={"t": t}) for t in range(24)])
    gate = threading.Event()
    with SimulatedMicroscope(frame_shape=(64, 96)) as microscope:
        with attach(
            microscope.core,
            engine=Gated(gate, free=3),
            policy="every",
            raw=tmp_path / "raw.ome.zarr",
            sinks=[keep, Recorder(tmp_path / "refocused.ome.zarr")],
            queue=2,
        ) as live:
            full = []
            live.events.queue_full.connect(full.append)
            microscope.core.mda.run(events, output=tmp_path / "raw.ome.zarr")
            assert live.stats.check().deferred > 10
            gate.set()
        stats = live.stats.check()
    assert (stats.received, stats.published, stats.deferred) == (24, 24, 0)
    assert full
    assert not live.problems
    raw, refocused = (zarr_arrays(tmp_path / f"{kind}.ome.zarr") for kind in ("raw", "refocused"))
    assert list(raw) == list(refocused)
    for position in raw:
        assert raw[position].any(axis=(-2, -1)).all()
        np.testing.assert_array_equal(np.invert(raw[position]), refocused[position])
    metadata = [
        entry
        for document in (tmp_path / "refocused.ome.zarr").rglob("zarr.json")
        for entry in json.loads(document.read_text())
        .get("attributes", {})
        .get("ome_writers", {})
        .get("frame_metadata", [])
    ]
    assert sorted(entry["frame"] for entry in metadata) == list(range(24))


def test_deferred_frames_are_kept_on_the_disk_first_in_first_out():
    frames = DeferredFrames()
    owed = [captured(number) for number in range(5)]
    for number, frame in enumerate(owed):
        pixels = blank(frame.pixels.shape, frame.pixels.dtype)
        stripped = CapturedFrame(**{**vars(frame), "pixels": pixels, "place": number + 7})
        frames.add(
            Deferred(stripped, Task.PASS if number % 2 else Task.REFOCUS, sample(frame.pixels))
        )
        if number == 2:
            frames.first()
            frames.drop_first()
    for number in range(1, 5):
        first = frames.first()
        assert frames.first() is first
        assert (first.frame.frame, first.frame.place) == (number, number + 7)
        assert first.task is (Task.PASS if number % 2 else Task.REFOCUS)
        assert first.sample == sample(owed[number].pixels)
        assert dict(first.frame.index) == {"t": number}
        frames.drop_first()
    assert len(frames) == 0
    with pytest.raises(IndexError):
        frames.first()
    frames.add(Deferred(stripped, Task.REFOCUS, b""))
    assert frames.first().frame.frame == 4
    frames.close()


def test_raw_data_that_are_not_there_are_none(tmp_path):
    raw = RawZarr(tmp_path / "raw.ome.zarr")
    raw.start(RunInfo("run"))
    assert raw.read(captured(0)) is None
    camera = {"label": "Camera", "width": 8, "height": 8, "dtype": "uint16"}
    raw.start(RunInfo("run", sequence=loops(2), camera=camera))
    assert raw.read(CapturedFrame(**{**vars(captured(0)), "place": 0})) is None
