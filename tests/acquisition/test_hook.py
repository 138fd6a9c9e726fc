import gc
import hashlib
import os
import subprocess
import sys
import threading

import numpy as np
import pymmcore
import pytest
import useq
from pymmcore_plus import CMMCorePlus

from refocus.acquisition import attach
from refocus.configs import RefocusError
from refocus.engine.fake import FakeEngine

from ..conftest import Keep

ANY = "tcp://127.0.0.1:*"


@pytest.fixture
def core():
    """Give the C++ DemoCamera of Micro-Manager, 512² and 16 bits."""
    core = CMMCorePlus()
    try:
        core.loadSystemConfiguration()
    except (FileNotFoundError, RuntimeError, ValueError) as error:
        pytest.skip(f"needs mm-test-adapters: {error}")
    core.setExposure(2)
    yield core
    pymmcore.CMMCore.registerCallback(core, None)  # or the C++ core may abort at exit
    core.unloadAllDevices()
    del core
    gc.collect()


def loops(count):
    return useq.MDASequence(channels=["DAPI"], time_plan={"interval": 0, "loops": count})


@pytest.mark.parametrize("hardware", [False, True], ids=["software", "hardware"])
def test_the_demo_camera_is_refocused_frame_by_frame(core, hardware):
    core.mda.engine.use_hardware_sequencing = hardware
    core.setXYPosition(10.0, 20.0)
    core.waitForSystem()  # it takes its time, and a hardware sequence does not wait for it
    raw, triggered, keep = [], set(), Keep()

    def on_frame(pixels, event, meta):
        raw.append((pixels, pixels.copy()))
        triggered.add(meta.get("hardware_triggered", False))

    core.mda.events.frameReady.connect(on_frame)
    before = threading.active_count()
    with attach(core, engine=FakeEngine(), sinks=[keep], queue=20) as live:
        core.run_mda(loops(20))  # returns at once; leaving the context waits
    assert threading.active_count() == before
    assert triggered == {hardware}
    stats = live.stats.check()
    assert (stats.received, stats.published) == (20, 20)
    for number, (result, (pixels, copied)) in enumerate(zip(keep.results, raw, strict=True)):
        captured = result.captured
        assert np.shares_memory(captured.pixels, pixels)  # no copy
        assert not captured.pixels.flags.writeable
        np.testing.assert_array_equal(pixels, copied)  # and nothing written into it
        np.testing.assert_array_equal(result.pixels, np.invert(copied))
        assert (captured.frame, captured.index) == (number, {"t": number, "c": 0})
        assert (captured.channel, captured.camera) == ("DAPI", "Camera")
        assert (captured.bit_depth, captured.exposure_ms) == (16, 2.0)
        assert captured.position_um == pytest.approx({"x": 10, "y": 20, "z": 0}, abs=0.1)
        assert captured.pixel_size_um == core.getPixelSizeUm()
    (run,) = keep.runs
    assert run.sequence == loops(20)
    assert (run.camera["label"], run.camera["width"], run.camera["dtype"]) == (
        "Camera",
        512,
        "uint16",
    )
    assert run.engine["name"] == "fake"
    assert keep.closed == [stats]
    assert stats.callback_us.p50 > 0


def test_a_z_stack_at_positions_says_where_each_plane_was(core):
    keep = Keep()
    sequence = useq.MDASequence(
        stage_positions=[(0, 0, 5), (100, 50, 7)], z_plan={"range": 2, "step": 1}
    )
    with attach(core, engine=FakeEngine(), sinks=[keep], queue=6) as live:
        core.run_mda(sequence)
    assert live.stats.check().skipped == 6
    assert not any(result.refocused for result in keep.results)
    where = [tuple(r.captured.position_um[axis] for axis in "xyz") for r in keep.results]
    expected = [(0, 0, 4), (0, 0, 5), (0, 0, 6), (100, 50, 6), (100, 50, 7), (100, 50, 8)]
    np.testing.assert_allclose(where, expected, atol=0.1)
    assert [dict(r.captured.index)["z"] for r in keep.results] == [0, 1, 2, 0, 1, 2]


def test_runs_back_to_back_are_told_apart(core):
    keep, sequence = Keep(), loops(5)
    with attach(core, engine=FakeEngine(0.005), sinks=[keep]) as live:
        for _ in range(2):
            core.run_mda(sequence).join()
            assert live.wait(30)
    assert [stats.published for stats in keep.closed] == [5, 5]
    assert keep.runs[0].run != keep.runs[1].run
    assert [result.number for result in keep.results] == [*range(5), *range(5)]
    live.stats.check()


def test_two_cameras(core):
    core.loadDevice("Camera 2", "DemoCamera", "DCam")
    core.loadDevice("Both", "Utilities", "Multi Camera")
    core.initializeDevice("Camera 2")
    core.initializeDevice("Both")
    core.setProperty("Camera 2", "PixelType", "16bit")
    core.setProperty("Both", "Physical Camera 1", "Camera")
    core.setProperty("Both", "Physical Camera 2", "Camera 2")
    core.setCameraDevice("Both")
    core.mda.engine.use_hardware_sequencing = False
    keep = Keep()
    with attach(core, engine=FakeEngine(), sinks=[keep], queue=20) as live:
        core.run_mda(loops(3))
    stats = live.stats.check()
    assert (stats.received, stats.published) == (6, 6)
    cameras = [(r.captured.camera, r.captured.index["cam"]) for r in keep.results]
    assert cameras == 3 * [("Camera", 0), ("Camera 2", 1)]


def test_colour_frames_fail_and_the_acquisition_goes_on(core, caplog):
    core.setProperty("Camera", "PixelType", "32bitRGB")
    got = []
    core.mda.events.frameReady.connect(lambda *frame: got.append(frame))
    with attach(core, engine=FakeEngine()) as live:
        core.run_mda(loops(4))
    stats = live.stats.check()
    assert (len(got), stats.received, stats.failed) == (4, 4, 4)
    (problem,) = live.problems
    assert "set the camera to one channel of 8 or 16 bits" in problem


def test_a_listener_that_raises_costs_no_frame(core):
    def broken(*frame):
        raise ValueError("someone else's fault")

    core.mda.events.frameReady.connect(broken)
    with attach(core, engine=FakeEngine(), queue=20) as live:
        core.run_mda(loops(5))
    assert live.stats.check().published == 5


def test_an_acquisition_that_breaks_off_is_drained(core, monkeypatch, caplog):
    engine, failed = core.mda.engine, threading.Event()
    monkeypatch.setattr(threading, "excepthook", lambda args: failed.set())

    def teardown(sequence):
        raise RuntimeError("stage lost")  # now sequenceFinished never comes

    monkeypatch.setattr(engine, "teardown_sequence", teardown)
    keep = Keep()
    with attach(core, engine=FakeEngine(), sinks=[keep], queue=20) as live:
        core.run_mda(loops(5))
    assert live.stats.check().published == 5
    assert len(keep.closed) == 1
    monkeypatch.setattr(
        engine, "exec_event", lambda event: (_ for _ in ()).throw(RuntimeError("camera lost"))
    )
    core.mda._state = type(core.mda.status.phase).IDLE
    with attach(core, engine=FakeEngine(), sinks=[keep]) as live:
        core.run_mda(loops(5))
    assert live.stats.check().received == 0
    assert failed.wait(10)
    assert len(keep.closed) == 2


def test_ctrl_c_cancels_the_acquisition_and_keeps_what_there_is(core):
    core.mda.engine.use_hardware_sequencing = False
    arrived, keep = threading.Event(), Keep()
    core.mda.events.frameReady.connect(lambda *frame: arrived.set())
    live = attach(core, engine=FakeEngine(), sinks=[keep])

    def body():
        with live:
            core.run_mda(loops(100_000))
            assert arrived.wait(10)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        body()
    assert not core.mda.is_running()
    stats = live.stats.check()
    assert 0 < stats.received < 100_000
    assert stats.in_flight == 0
    assert keep.closed == [stats]


def test_another_exception_lets_the_acquisition_end(core):
    live = attach(core, engine=FakeEngine(), queue=20)

    def body():
        with live:
            core.run_mda(loops(10))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        body()
    assert live.stats.check().published == 10


def test_detached_the_acquisition_goes_on_alone(core):
    core.mda.engine.use_hardware_sequencing = False
    arrived, frames = threading.Semaphore(0), []
    core.mda.events.frameReady.connect(lambda *frame: (frames.append(frame), arrived.release()))
    live = attach(core, engine=FakeEngine(), queue=50)
    thread = core.run_mda(loops(30))
    arrived.acquire()
    live.detach()
    live.detach()
    stats = live.stats.check()
    thread.join()
    assert len(frames) == 30
    assert 1 <= stats.received <= 30
    assert live.stats == stats


def test_attached_in_the_middle_the_rest_is_refocused(core):
    core.mda.engine.use_hardware_sequencing = False
    keep, attached, frames = Keep(), [], []

    def on_frame(*frame):
        frames.append(frame)
        if len(frames) == 3:
            attached.append(attach(core, engine=FakeEngine(), sinks=[keep], queue=20))

    core.mda.events.frameReady.connect(on_frame)
    core.run_mda(loops(10)).join()
    (live,) = attached
    assert live.wait(30)
    live.detach()
    stats = live.stats.check()
    assert stats.received == stats.published == 7
    assert [result.captured.index["t"] for result in keep.results] == list(range(3, 10))
    assert keep.runs[0].sequence == loops(10)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"queue": 0}, "queue: input should be greater than or equal to 1, got 0"),
        ({"publish": "tcp://0.0.0.0:5555"}, "other hosts could read"),
        ({"publish": "tcp://nowhere"}, "not one to bind to"),
    ],
)
def test_wrong_settings_leave_nothing_attached(core, settings, says):
    before = threading.active_count()
    engine = FakeEngine()
    with pytest.raises(RefocusError, match=says):
        attach(core, engine=engine, **settings)
    assert threading.active_count() == before
    assert len(core.mda.events.frameReady) == 0
    assert not engine.closed  # it is the caller's


QT = """
import threading, time
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QApplication
app = QApplication([])
busy = QTimer()
busy.timeout.connect(lambda: time.sleep(0.05))
busy.start(1)

import gc, useq
from pymmcore_plus import CMMCorePlus
from refocus.acquisition import attach
from refocus.engine.fake import FakeEngine
core = CMMCorePlus()
core.loadSystemConfiguration()
assert type(core.mda.events).__name__ == "QMDASignaler"
threads = set()

class Engine(FakeEngine):
    def refocus(self, frame):
        threads.add(threading.current_thread().name)
        return super().refocus(frame)

with attach(core, engine=Engine(), queue=30) as live:
    thread = core.run_mda(useq.MDASequence(time_plan={"interval": 0, "loops": 20}))
    while thread.is_alive():
        app.processEvents()
with attach(core, engine=Engine(), queue=30) as blind:  # no event loop at all
    core.run_mda(useq.MDASequence(time_plan={"interval": 0, "loops": 20}))
print([stats.check().published for stats in (live.stats, blind.stats)])
print(max(live.stats.latency_ms.p50, blind.stats.latency_ms.p50) < 50, threads)
core.unloadAllDevices()
del core
gc.collect()
"""


@pytest.mark.alone
def test_under_qt_with_a_busy_window_frames_do_not_wait_for_it():
    pytest.importorskip("qtpy")
    environment = {**os.environ, "QT_QPA_PLATFORM": "offscreen"}
    done = subprocess.run(
        [sys.executable, "-c", QT], capture_output=True, text=True, env=environment, check=False
    )
    if "Error" in done.stderr and "import" in done.stderr:
        pytest.skip(f"needs a Qt that works here: {done.stderr.splitlines()[-1]}")
    assert done.stdout.splitlines() == ["[20, 20]", "True {'refocus-worker'}"], done.stderr


READER = """
import sys, hashlib
from refocus.acquisition import subscribe
subscription = subscribe(sys.argv[1], timeout=60)
for frame in subscription:
    print(frame.header.number, hashlib.sha256(frame.pixels.tobytes()).hexdigest())
assert subscription.lost == 0, subscription.lost
assert subscription.end.frames["published"] == 200
"""


def test_another_process_receives_all_200_frames_bit_identical(core):
    keep = Keep()
    with attach(core, engine=FakeEngine(), publish=ANY, sinks=[keep], throttle=True) as live:
        reader = subprocess.Popen(
            [sys.executable, "-c", READER, live.endpoint], stdout=subprocess.PIPE, text=True
        )
        assert live.wait_subscribers(1, 60)
        core.run_mda(loops(200))
    lines = reader.communicate(timeout=60)[0].splitlines()
    assert reader.returncode == 0
    assert live.stats.check().published == 200
    assert keep.results[0].pixels.shape == (512, 512)
    assert lines == [
        f"{r.number} {hashlib.sha256(r.pixels.tobytes()).hexdigest()}" for r in keep.results
    ]


def test_what_is_no_engine_is_refused(microscope):
    class FourMethods:  # of a protocol that once was
        info = FakeEngine().info

        def refocus(self, frame):
            return frame

    with pytest.raises(RefocusError, match="FourMethods: not one; make it a subclass"):
        attach(microscope.core, engine=FourMethods())
