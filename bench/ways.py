"""Five ways of refocusing what an acquisition delivers, and one acquisition with each.

A way is a context manager: inside it a frame that the core acquires is refocused. All are given
the same engine, and are timed by the same two listeners, one before and one after their own.
"""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from refocus.acquisition.hook import attach
from refocus.acquisition.microscopes.field import SpecimenField
from refocus.acquisition.microscopes.scene import Moment, Truth
from refocus.acquisition.microscopes.virtual import VirtualMicroscope
from refocus.acquisition.pipeline.frame import FrameResult
from refocus.acquisition.pipeline.sink import RunInfo
from refocus.acquisition.pipeline.stats import Stats
from refocus.acquisition.signals import FIRST
from refocus.bench.calibrated_engine import CalibratedEngine, PeakMemory, Unattached
from refocus.configs import Optics
from refocus.engine.protocol import Frame
from refocus.optics.camera import CameraModel
from refocus.optics.specimens import nuclei

if TYPE_CHECKING:
    from pymmcore_plus import CMMCorePlus
    from useq import MDAEvent


@dataclass(eq=False)
class Attached:
    """What a way has to say.

    Attributes
    ----------
    output
        What the acquisition must be given as ``output=``.
    done
        ``(place, ns)``: which of the frames delivered was refocused when. Appended to by any
        thread.
    took_ms
        How long the engine took for each, where nobody else knows.
    """

    output: Any = None
    done: list[tuple[int, int]] = field(default_factory=list)
    took_ms: list[float] = field(default_factory=list)


Way = Callable[["CMMCorePlus", CalibratedEngine, float], AbstractContextManager[Attached]]


@contextmanager
def leave_alone(
    core: "CMMCorePlus", engine: CalibratedEngine, period_s: float
) -> Iterator[Attached]:
    """Let the engine do the same work beside the acquisition, attached to nothing."""
    attached = Attached()
    with Unattached(engine, period_s) as unattached:
        yield attached
    attached.took_ms = unattached.took_ms


@contextmanager
def attach_refocus(
    core: "CMMCorePlus", engine: CalibratedEngine, period_s: float
) -> Iterator[Attached]:
    """Attach this project's hook, as its users would."""
    noted = _Noted()
    with attach(core, engine=engine, sinks=(noted,)):
        yield noted.attached


@contextmanager
def call_back(core: "CMMCorePlus", engine: CalibratedEngine, period_s: float) -> Iterator[Attached]:
    """Refocus in a listener to ``frameReady``, while the acquisition waits."""
    handler = _Handler(engine)
    core.mda.events.frameReady.connect(handler.frameReady)
    try:
        yield handler.attached
    finally:
        core.mda.events.frameReady.disconnect(handler.frameReady)


@contextmanager
def hand_as_output(
    core: "CMMCorePlus", engine: CalibratedEngine, period_s: float
) -> Iterator[Attached]:
    """Refocus in the relay thread that pymmcore-plus has for its ``output=`` handlers."""
    handler = _Handler(engine)
    handler.attached.output = handler
    yield handler.attached


@contextmanager
def start_threads(
    core: "CMMCorePlus", engine: CalibratedEngine, period_s: float
) -> Iterator[Attached]:
    """Refocus each frame in a thread of its own."""
    handler = _Handler(engine)
    threads: list[threading.Thread] = []

    def start(pixels: Frame) -> None:
        place = len(threads)
        threads.append(threading.Thread(target=handler.refocus, args=(place, pixels)))
        threads[-1].start()

    core.mda.events.frameReady.connect(start)
    try:
        yield handler.attached
    finally:
        core.mda.events.frameReady.disconnect(start)
        for thread in threads:
            thread.join()


WAYS: dict[str, Way] = {
    "none": leave_alone,
    "refocus": attach_refocus,
    "callback": call_back,
    "output": hand_as_output,
    "thread-per-frame": start_threads,
}


class _Handler:
    """Refocuses whatever it is called with."""

    def __init__(self, engine: CalibratedEngine) -> None:
        self.attached = Attached()
        self._engine = engine
        self._places = 0

    def frameReady(self, pixels: Frame, event: "MDAEvent", meta: Any) -> None:
        place = self._places
        self._places += 1
        self.refocus(place, pixels)

    def refocus(self, place: int, pixels: Frame) -> None:
        self._engine.refocus(pixels)
        self.attached.done.append((place, time.perf_counter_ns()))


class _Noted:
    """A sink that notes when it was given what."""

    def __init__(self) -> None:
        self.attached = Attached()

    def start(self, run: RunInfo) -> None:
        """Begin anew."""

    def put(self, result: FrameResult) -> None:
        """Note the time."""
        self.attached.done.append((result.captured.frame, time.perf_counter_ns()))
        self.attached.took_ms.append(result.engine_ms)

    def close(self, stats: Stats) -> None:
        """See that every frame is accounted for."""
        stats.check()


class BenchMicroscope(VirtualMicroscope):
    """The simulated microscope in focus, which remembers when each frame was exposed.

    Parameters
    ----------
    side
        Height and width of the sensor, pixels.
    fps
        Frames per second of the camera; None for as fast as it can.
    """

    def __init__(self, side: int, fps: float | None = None) -> None:
        optics, shape = Optics(), (side, side)
        self._paced = fps is not None
        self._clocked = _Clocked(
            SpecimenField(
                lambda _: nuclei(
                    shape, np.random.default_rng(0), pixel_size_um=optics.pixel_size_um
                ),
                shape,
                optics=optics,
                camera=CameraModel(),
            )
        )
        super().__init__(self._clocked, pixel_size_um=optics.pixel_size_um, fps=fps)

    @property
    def exposed_ns(self) -> dict[int, int]:
        """When each capture of the present run was exposed, ``perf_counter_ns``."""
        return self._clocked.exposed_ns

    def warm_up(self, frames: int = 300) -> None:
        """Fill as much of the ring as a run of so many frames will use, and throw it away."""
        ring = self.core.getBufferTotalCapacity()
        # an unpaced camera waits for its reader once an eighth is full
        frames = min(frames, ring - 1 if self._paced else max(1, ring // 8))
        self.core.startSequenceAcquisition(frames, 0, False)
        while self.core.isSequenceRunning():
            time.sleep(0.001)
        while self.core.getRemainingImageCount():
            self.core.popNextImage()
        self._camera.begin_run()


class _Clocked:
    """A scene that notes when it was looked at."""

    def __init__(self, scene: SpecimenField) -> None:
        self.exposed_ns: dict[int, int] = {}
        self.shape = scene.shape
        self.dtype = scene.dtype
        self.expect = scene.expect
        self._scene = scene

    def expose(self, moment: Moment, out: NDArray[Any]) -> str:
        source = self._scene.expose(moment, out)
        self.exposed_ns[moment.capture] = time.perf_counter_ns()
        return source

    def truth(self, moment: Moment) -> Truth:
        return self._scene.truth(moment)


@dataclass(frozen=True, eq=False)
class Acquired:
    """One acquisition.

    Attributes
    ----------
    fps
        Frames per second that the acquisition delivered, from the first to the last.
    missing
        Frames that it did not deliver: the ring of the camera overflowed.
    latency_ms
        From exposure to the refocused frame, for each that was refocused.
    callback_us
        What the acquisition's thread spent on each frame beyond the acquisition itself.
    peak_mb
        The most memory that the process took.
    took_ms
        How long the engine took per frame, where it is known.
    refocused
        How many frames were.
    seconds
        From the first frame delivered to the last refocused.
    """

    fps: float
    missing: int
    latency_ms: Sequence[float]
    callback_us: Sequence[float]
    peak_mb: float
    took_ms: Sequence[float]
    refocused: int
    seconds: float


class _Timeline:
    """Listens before and after a way does."""

    def __init__(self) -> None:
        self.captures: list[str] = []
        self.arrived_ns: list[int] = []
        self.left_ns: list[int] = []

    @contextmanager
    def listening(self, core: "CMMCorePlus") -> Iterator[None]:
        ready: Any = core.mda.events.frameReady
        ready.connect(self._before, priority=2 * FIRST)
        ready.connect(self._after, priority=-1)
        try:
            yield
        finally:
            ready.disconnect(self._before)
            ready.disconnect(self._after)

    def _before(self, pixels: Frame, event: "MDAEvent", meta: Any) -> None:
        self.captures.append(meta["camera_metadata"]["capture"])
        self.arrived_ns.append(time.perf_counter_ns())

    def _after(self) -> None:
        self.left_ns.append(time.perf_counter_ns())


def acquire(
    microscope: BenchMicroscope,
    way: Way,
    engine: CalibratedEngine,
    *,
    frames: int,
    hardware: bool,
    period_s: float,
) -> Acquired:
    """Acquire so many frames in one way.

    Parameters
    ----------
    microscope
        Where; warmed up.
    way
        One of ``WAYS``.
    engine
        Refocuses them.
    frames
        How many.
    hardware
        Whether the sequence is triggered by the hardware, or a frame at a time by the software.
    period_s
        Time of a frame of the camera.
    """
    core = microscope.core
    acquisition = core.mda.engine
    assert acquisition is not None
    acquisition.use_hardware_sequencing = hardware
    microscope.exposed_ns.clear()
    timeline, memory = _Timeline(), PeakMemory()
    with (
        memory.measured(),
        timeline.listening(core),
        way(core, engine, period_s) as attached,
        suppress(MemoryError, TimeoutError),  # the ring overflowed: what it lost is counted
    ):
        core.mda.run(microscope.sequence(frames), output=attached.output)
    arrived = timeline.arrived_ns
    exposed = [microscope.exposed_ns[int(capture)] for capture in timeline.captures]
    span_s = (arrived[-1] - arrived[0]) / 1e9 if arrived else 0.0
    last_ns = max((ns for _, ns in attached.done), default=arrived[0] if arrived else 0)
    return Acquired(
        fps=(len(arrived) - 1) / span_s if span_s > 0 else 0.0,
        missing=frames - len(arrived),
        latency_ms=[(ns - exposed[place]) / 1e6 for place, ns in attached.done],
        callback_us=[
            (left - came) / 1e3 for came, left in zip(arrived, timeline.left_ns, strict=False)
        ],
        peak_mb=memory.mb,
        took_ms=attached.took_ms,
        refocused=len(attached.done),
        seconds=(last_ns - arrived[0]) / 1e9 if arrived else 0.0,
    )
