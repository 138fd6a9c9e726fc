"""What goes wrong on a real rig, and that it costs neither a raw frame nor anything else."""

import gc
import os
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import zmq

from refocus.acquisition import attach, subscribe
from refocus.acquisition.microscopes.simulated import SimulatedMicroscope
from refocus.acquisition.sinks.recorder import Recorder
from refocus.configs import RefocusError
from refocus.engine.fake import FakeEngine
from refocus.engine.protocol import DeviceError

from ...conftest import Gated, Keep, loops, zarr_arrays

FRAMES = 24
ANY = "tcp://127.0.0.1:*"


def open_files():
    """Give what this process has open; the log of pymmcore-plus comes and goes by itself."""
    folder = Path("/proc/self/fd")
    links = []
    for entry in folder.iterdir() if folder.is_dir() else ():
        with suppress(OSError):
            links.append(os.readlink(entry))
    return {link for link in links if not link.endswith(".log") and not link.startswith("/proc/")}


@pytest.fixture
def nothing_left():
    """See that neither a thread nor a file nor a socket is left at the end."""
    zmq.Frame(bytearray(8), copy=False, copy_threshold=0)  # its collector is one per process
    gc.collect()
    threads, files = set(threading.enumerate()), open_files()
    yield
    until = time.monotonic() + 10
    while True:
        gc.collect()
        left = set(threading.enumerate()) - threads, open_files() - files
        if not any(left) or time.monotonic() > until:
            break
        time.sleep(0.01)
    assert left == (set(), set())


@pytest.fixture
def rig(tmp_path, nothing_left):
    """Give a microscope whose frames are saved, and noted as they come."""
    with SimulatedMicroscope(frame_shape=(64, 96)) as microscope:
        yield Rig(microscope, tmp_path / "raw.ome.zarr")


class Rig:
    """Runs a sequence, saving its frames, and compares them with what the camera gave."""

    def __init__(self, microscope, path):
        self.core, self.path = microscope.core, path
        self.microscope = microscope
        self.given = []
        self.core.mda.events.frameReady.connect(self._note)

    def _note(self, pixels, event, meta):
        self.given.append((pixels, pixels.copy()))

    def acquire(self, sequence=None):
        self.core.mda.run(sequence or loops(FRAMES), output=self.path)

    def check_raw(self, frames=FRAMES):
        assert len(self.given) == frames
        (saved,) = zarr_arrays(self.path).values()
        assert len(saved) == frames
        for (pixels, copied), written in zip(self.given, saved, strict=True):
            np.testing.assert_array_equal(pixels, copied)
            np.testing.assert_array_equal(written, copied)


class Failing(FakeEngine):
    """An engine that answers in a way of its own from its third frame on."""

    def __init__(self, answer):
        super().__init__()
        self._answer = answer

    def refocus(self, frame):
        refocused = super().refocus(frame)
        return refocused if self.calls <= 2 else self._answer(refocused)


def raising(frame):
    raise ValueError("out of luck")


def gpu_lost(frame):
    raise DeviceError("the device is gone")


class Panic(BaseException):
    """As an engine written in another language may raise."""


def panicking(frame):
    raise Panic("out of mind")


def leaving(frame):
    raise SystemExit(1)


@pytest.mark.parametrize(
    ("answer", "published"),
    [
        (raising, 2),
        (panicking, 2),
        (leaving, 2),
        (gpu_lost, 2),
        (lambda frame: np.full(frame.shape, np.nan, np.float32), 2),
        (lambda frame: frame[1:], 2),
        (lambda frame: frame.astype(np.uint8), 2),
        (lambda frame: None, 2),
        (lambda frame: frame.__iadd__(np.uint16(1)), FRAMES),  # writes, but into its own
    ],
    ids=[
        "raises",
        "panics",
        "leaves",
        "GPU lost",
        "NaN",
        "wrong shape",
        "wrong dtype",
        "nothing",
        "in place",
    ],
)
def test_an_engine_that_fails(rig, keep, answer, published, caplog):
    with attach(rig.core, engine=Failing(answer), sinks=[keep], queue=FRAMES) as live:
        rig.acquire()
    stats = live.stats.check()
    assert (stats.published, stats.failed) == (published, FRAMES - published)
    assert len(keep.results) + len(keep.skipped) == FRAMES
    rig.check_raw()


def write_into(pixels):
    pixels[:] = 7
    return pixels


class InPlace(FakeEngine):
    """Writes into the captured frame."""

    def refocus(self, frame):
        return write_into(frame)


class InPlaceSink(Keep):
    """Writes into the captured pixels, or into the refocused ones that other sinks are given."""

    def __init__(self, whose):
        super().__init__()
        self._whose = whose

    def put(self, result):
        write_into(result.captured.pixels if self._whose == "captured" else result.pixels)


def test_an_engine_cannot_write_into_raw_frames(rig, keep):
    with attach(rig.core, engine=InPlace(), sinks=[keep], queue=FRAMES) as live:
        rig.acquire()
    assert live.stats.check().failed == FRAMES
    assert any("read-only" in problem for problem in live.problems)
    rig.check_raw()


@pytest.mark.parametrize("whose", ["captured", "refocused"])
def test_a_sink_cannot_write_into_what_it_shares(rig, keep, whose):
    sinks = [InPlaceSink(whose), keep]
    with attach(rig.core, engine=FakeEngine(), sinks=sinks, queue=FRAMES) as live:
        rig.acquire()
    assert any("InPlaceSink left out" in problem for problem in live.problems)
    for result in keep.results:
        np.testing.assert_array_equal(result.pixels, np.invert(result.captured.pixels))
    rig.check_raw()


def test_an_engine_that_hangs_is_given_up_and_the_acquisition_goes_on(rig, keep, caplog):
    gate, hung = threading.Event(), []
    engine = Gated(gate, free=2)
    with attach(rig.core, engine=engine, sinks=[keep], publish=ANY, queue=4) as live:
        live.events.hung.connect(hung.append)
        rig.acquire()
        assert engine.hanging.wait(30)
        live._pipeline._patience_ns = 1  # a busy machine is slow, too, before its engine hangs
    stats = live.stats.check()
    assert stats.received == FRAMES
    assert (stats.in_flight, stats.deferred) == (0, 0)
    assert stats.failed == 1
    assert len(hung) == 1
    assert any("the engine or a sink has not returned for" in text for text in live.problems)
    assert len(keep.closed) == 1  # the sinks are closed, what they have is readable
    rig.check_raw()
    gate.set()  # else the thread would be left
    assert not engine.closed


def test_a_sink_that_hangs_in_start_is_given_up(rig, keep):
    class Stuck(Keep):
        def start(self, run):
            never.wait(60)

    never = threading.Event()
    live = attach(rig.core, engine=FakeEngine(), sinks=[keep, Stuck()], patience_seconds=0.2)
    rig.acquire()
    assert live.wait(30)
    live.detach(5)
    never.set()
    stats = live.stats.check()
    assert (stats.received, stats.dropped) == (FRAMES, FRAMES)
    assert any("has not returned for 0.2 s" in problem for problem in live.problems)
    rig.check_raw()


def test_a_second_run_after_an_engine_hung(rig, keep):
    gate = threading.Event()
    engine = Gated(gate, free=0)
    with attach(rig.core, engine=engine, sinks=[keep], queue=2) as live:
        rig.acquire()
        assert engine.hanging.wait(30)
        patience_ns, live._pipeline._patience_ns = live._pipeline._patience_ns, 1
        assert live.wait(10)
        live._pipeline._patience_ns = patience_ns
        gate.set()
        rig.path = rig.path.with_name("second.ome.zarr")
        rig.given.clear()
        rig.acquire()
    assert live.stats.check().published > 0
    assert len(keep.closed) == 2
    rig.check_raw()


def test_a_full_disk_ends_the_recording_and_nothing_else(rig, tmp_path, keep, monkeypatch):
    class Usage:
        free = 2**40
        asked = 0

        def __call__(self, path):
            self.asked += 1
            self.free = 2**40 if self.asked < 5 else 1000
            return self

    monkeypatch.setattr("refocus.acquisition.sinks.recorder.shutil.disk_usage", Usage())
    recorder = Recorder(tmp_path / "refocused.ome.zarr")
    with attach(rig.core, engine=FakeEngine(), sinks=[recorder, keep], queue=FRAMES) as live:
        rig.acquire()
    stats = live.stats.check()
    assert (stats.published, stats.failed) == (4, FRAMES - 4)
    assert len(keep.results) == FRAMES  # other sinks have them all
    assert any("the disk is full" in problem for problem in live.problems)
    (recorded,) = zarr_arrays(recorder.path).values()
    assert recorded.any(axis=(1, 2)).tolist() == 4 * [True] + (FRAMES - 4) * [False]
    rig.check_raw()


def test_subscribers_that_never_read_or_die(rig, keep):
    with attach(rig.core, engine=FakeEngine(), publish=ANY, sinks=[keep], queue=FRAMES) as live:
        live.publisher._linger_seconds = 0.1
        stuck = subscribe(live.endpoint, high_water=1)
        context = zmq.Context()
        dying = context.socket(zmq.SUB)
        dying.subscribe(b"")
        dying.connect(live.endpoint)
        assert live.wait_subscribers(2, 10)
        rig.core.mda.events.frameReady.connect(
            lambda *frame: context.destroy(linger=0) if len(rig.given) == 5 else None
        )
        rig.acquire()
    assert live.stats.check().published == FRAMES
    assert context.closed
    stuck.close()
    rig.check_raw()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such sockets")
def test_a_network_name_that_goes_away(rig, keep, tmp_path):
    """Readers there stay; others come as soon as there is a name again; nobody else notices."""
    name = tmp_path / "frames"
    with (
        attach(rig.core, engine=FakeEngine(), publish=f"ipc://{name}", sinks=[keep]) as live,
        subscribe(live.endpoint, timeout=30) as there,
        subscribe("tcp://no-such-host.invalid:5556") as nowhere,
    ):
        assert live.wait_subscribers(1, 10)
        rig.core.mda.events.frameReady.connect(
            lambda *frame: name.unlink() if len(rig.given) == 5 else None
        )
        rig.acquire()
        assert live.wait(30)
        assert not name.exists()
        late = subscribe(live.endpoint, timeout=0.3)  # it keeps trying, and says so in the end
        with pytest.raises(RefocusError, match="nothing heard for"):
            next(iter(late))
        frames = list(there)
        assert (nowhere.received, nowhere.lost) == (0, 0)
    stats = live.stats.check()
    assert not live.problems
    assert len(frames) == stats.published == len(keep.results)
    assert stats.received == FRAMES
    rig.check_raw()


def test_a_camera_that_stalls(rig, keep):
    scene = rig.microscope._scene
    expose, count = scene.expose, iter(range(100))

    def stalling(moment, out):
        if next(count) == 10:
            time.sleep(0.3)
        return expose(moment, out)

    scene.expose = stalling
    with attach(rig.core, engine=FakeEngine(), sinks=[keep], queue=FRAMES) as live:
        rig.acquire()
    assert live.stats.check().published == FRAMES
    rig.check_raw()


def test_a_camera_that_changes_its_frame_size(rig, keep, tmp_path):
    """In the middle of a software sequence, by somebody else's hand."""
    rig.core.mda.engine.use_hardware_sequencing = False
    rig.core.mda.events.eventStarted.connect(
        lambda event: rig.core.setROI(0, 0, 48, 40) if event.index["t"] == 3 else None
    )
    recorder = Recorder(tmp_path / "refocused.ome.zarr")
    with (
        attach(
            rig.core, engine=FakeEngine(), sinks=[keep, recorder], publish=ANY, queue=FRAMES
        ) as live,
        subscribe(live.endpoint, timeout=30) as subscription,
    ):
        assert live.wait_subscribers(1, 10)
        rig.core.mda.run(loops(6))
        assert live.wait(30)
        shapes = [frame.pixels.shape for frame in subscription]
    assert shapes == 3 * [(64, 96)] + 3 * [(40, 48)]
    stats = live.stats.check()
    assert (stats.published, stats.failed) == (3, 3)  # published is what is saved, too
    (recorded,) = zarr_arrays(recorder.path).values()
    assert recorded.any(axis=(1, 2)).tolist() == 3 * [True] + 3 * [False]


def test_a_frame_that_comes_twice(rig, keep, tmp_path):
    """It is refocused twice, and recorded once, in its place: of what came nothing is missing."""
    events = rig.core.mda.events
    recorder = Recorder(tmp_path / "refocused.ome.zarr")

    def again(pixels, event, meta):
        if event.index["t"] in (2, 7) and len(rig.given) < 10:
            hook(pixels, event, meta)

    with attach(rig.core, engine=FakeEngine(), sinks=[keep, recorder], queue=20) as live:
        hook = live._hooks[0]._on_frame
        events.frameReady.connect(again)
        rig.acquire(loops(8))
    assert live.stats.check().published == 10
    assert not live.problems
    (recorded,) = zarr_arrays(recorder.path).values()
    np.testing.assert_array_equal(recorded, [np.invert(pixels) for _, pixels in rig.given])
    rig.check_raw(8)


def test_a_ring_that_overflows(nothing_left, keep):
    """The camera's loss is the camera's: what came is refocused, and nothing waits for the rest."""
    given = []
    with SimulatedMicroscope(frame_shape=(256, 256), fps=2000) as microscope:
        microscope.core.setCircularBufferMemoryFootprint(1)  # MB: eight frames
        events = microscope.core.mda.events
        with attach(microscope.core, engine=FakeEngine(), sinks=[keep], queue=100) as live:
            events.frameReady.connect(lambda *frame: (given.append(frame), time.sleep(0.01)))
            with suppress(MemoryError):
                microscope.core.mda.run(loops(100))
    stats = live.stats.check()
    assert 0 < len(given) < 100
    assert stats.published == stats.received == len(given)
