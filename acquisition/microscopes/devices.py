"""A camera in Python, and the core that it is wired to as on a rig with hardware triggering.

With ``stages`` the only module that touches ``pymmcore_plus.experimental.unicore``, which may
change under us.
"""

import atexit
import itertools
import os
import time
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import useq
from numpy.typing import DTypeLike, NDArray
from pymmcore_plus import CMMCorePlus
from pymmcore_plus.experimental.unicore import (
    SimpleCameraDevice,
    UniMMCore,
)
from pymmcore_plus.mda import MDAEngine
from pymmcore_plus.metadata import FrameMetaV1, SummaryMetaV1

from refocus.acquisition.microscopes.scene import Moment, Scene
from refocus.acquisition.microscopes.stages import FocusStage, LightShutter, SpecimenStage

REMEMBERED = 100_000
"""How many frames back the camera knows the moment of."""

PATIENCE_S, LAST_PATIENCE_S = 1.0, 60.0
"""How long it waits for its reader to take a frame: while the ring has room, and without."""

LOOK_S = 0.05
"""How soon it notices, between two frames, that its acquisition was cancelled."""

GetBuffer = Callable[[Sequence[int], DTypeLike], NDArray[Any]]


class SceneCamera(SimpleCameraDevice):
    """A camera that looks at a :class:`~refocus.acquisition.microscopes.scene.Scene`.

    Frames carry the tags ``capture`` (capture number within the run, from 0), ``source`` (file
    name, in a replay) and ``stage_z_um``.

    Parameters
    ----------
    scene
        What it looks at.
    focus, specimen
        The stages it reads at each exposure; it triggers the focus stage after each.
    fps
        Frames per second, whatever becomes of them: a reader too slow lets the ring overflow,
        as with a real camera. None for as fast as they are read. The frame that is due when an
        acquisition is cancelled comes at once, because the engine waits for it.
    """

    def __init__(
        self, scene: Scene, focus: FocusStage, specimen: SpecimenStage, fps: float | None
    ) -> None:
        super().__init__()
        self.tags: Mapping[str, str] = {}
        self.ring: Ring | None = None
        self._scene = scene
        self._focus = focus
        self._specimen = specimen
        self._period_s = 1.0 / fps if fps else 0.0
        self._exposure_ms = 10.0
        self._switched_on = time.perf_counter()
        self._due = self._switched_on
        self._captures = itertools.count()
        self._moments: OrderedDict[int, Moment] = OrderedDict()

    def begin_run(self) -> None:
        """Count captures from 0 again and forget the moments of the run before."""
        self._captures = itertools.count()
        self._moments.clear()

    @contextmanager
    def unpaced(self) -> Iterator[None]:
        """Expose as fast as frames are read, for a while."""
        period_s, self._period_s = self._period_s, 0.0
        try:
            yield
        finally:
            self._period_s = period_s

    def moment(self, capture: int) -> Moment:
        """Give the moment of a frame of this run; KeyError if there was none, or long ago."""
        return self._moments[capture]

    def look_ahead(self, x_um: float, z_um: float) -> None:
        """Compute what will be seen from a place of the stages."""
        self._scene.expect(replace(self._now(0), x_um=x_um, z_um=z_um), [z_um], 0.0)

    def sensor_shape(self) -> tuple[int, int]:
        """Height and width of the sensor, pixels."""
        return self._scene.shape

    def dtype(self) -> DTypeLike:
        """``uint8`` or ``uint16``."""
        return self._scene.dtype

    def get_exposure(self) -> float:
        """Exposure, ms."""
        return self._exposure_ms

    def set_exposure(self, exposure: float) -> None:
        """Set the exposure, ms: more light, but no longer frames (``fps`` sets those)."""
        if exposure <= 0:
            raise ValueError(f"exposure is {exposure} ms, but must be above 0")
        self._exposure_ms = float(exposure)

    def snap(self, buffer: NDArray[Any]) -> Mapping[str, str]:
        """Expose one frame into ``buffer``, of the region's shape, and give its tags."""
        moment = self._now(next(self._captures))
        source = self._scene.expose(moment, buffer)
        self._moments[moment.capture] = moment
        if len(self._moments) > REMEMBERED:
            self._moments.popitem(last=False)
        self._focus.trigger()
        tags = {"capture": str(moment.capture), "stage_z_um": f"{moment.z_um:.4f}"}
        if source:
            tags["source"] = source.encode(errors="replace").decode()  # a name may be no UTF-8
        self.tags = tags
        return tags

    def start_sequence(self, n: int | None, get_buffer: GetBuffer) -> Iterator[Mapping[str, str]]:
        """Expose ``n`` frames (None: until stopped), each into a buffer of its own.

        Whatever must be computed first is computed here, on the caller's thread: once the
        frames are on their way the acquisition engine waits for each with a time limit.
        """
        if n is None:
            self.begin_run()
        z_um = [self._focus.get_position_um(), *self._focus.ahead]
        self._scene.expect(self._now(0), z_um, (n or 0) * self._period_s)
        return self._frames(n, get_buffer)

    def _frames(self, n: int | None, get_buffer: GetBuffer) -> Iterator[Mapping[str, str]]:
        self._due = max(self._due, time.perf_counter() - self._period_s)
        for _ in itertools.count() if n is None else range(n):
            # on a fixed schedule, so that a late frame does not delay the rest
            self._due += self._period_s
            while (wait := self._due - time.perf_counter()) > 0:
                time.sleep(min(wait, LOOK_S))
                if wait > LOOK_S and self.ring and self.ring.cancelled():
                    break
            if not self._period_s and n is not None and n > 1 and self.ring:
                self.ring.wait_for_reader()
            # no sooner than this: a ring that has been emptied starts again where it is warm
            buffer = get_buffer(self.shape(), self.dtype())
            yield self.snap(buffer)

    def _now(self, capture: int) -> Moment:
        return Moment(
            capture=capture,
            z_um=self._focus.get_position_um(),
            x_um=self._specimen.get_position_um()[0],
            exposure_ms=self._exposure_ms,
            seconds=time.perf_counter() - self._switched_on,
            roi=self.get_roi(),
        )


class Ring:
    """The core's ring of frames, as far as a considerate camera looks at it.

    The ring is a gigabyte, and slow where it was never written to; it starts anew at its
    beginning whenever it is empty. So a camera that may wait does so now and then, until it is.
    """

    def __init__(self, core: UniMMCore) -> None:
        self._core = weakref.ref(core)
        self._stopping = core._stop_event
        self._burst = 0

    def wait_for_reader(self) -> None:
        """Return at once for most frames; after a burst, once all have been read.

        A reader that takes no frame at all is not waited for: it may want them all at the end.
        """
        capacity, free, waiting = self._look()
        if free == capacity:
            self._burst = 0
        self._burst += 1
        if self._burst <= min(max(16, capacity // 8), capacity // 2):
            return
        since = time.monotonic()
        while free < capacity and not self._stopping.is_set():
            time.sleep(0.0005)
            before = waiting
            capacity, free, waiting = self._look()
            if waiting < before:
                since = time.monotonic()
            patience = PATIENCE_S if 2 * free > capacity else LAST_PATIENCE_S
            if time.monotonic() - since > patience:
                return
        self._burst = 1

    def cancelled(self) -> bool:
        """Whether the acquisition waits for no more than the frame that it waits for."""
        core = self._core()
        return core is not None and core.mda.status.cancel_requested

    def _look(self) -> tuple[int, int, int]:
        """Give the frames that fit into the ring, those that still fit, and those waiting."""
        if (core := self._core()) is None:
            return 1, 1, 0
        free, capacity = core.getBufferFreeCapacity(), core.getBufferTotalCapacity()
        return capacity, free, core.getRemainingImageCount()


class SteadyCore(UniMMCore):
    """A core that can be asked from any thread whether a sequence is running.

    The core itself takes a sequence that is just being started for one that has ended, if another
    thread (a preview, a status bar) asks at that moment, and forgets it: its frames are lost.
    """

    def isSequenceRunning(self, cameraLabel: str | None = None) -> bool:
        """Whether the camera's sequence is running, or about to."""
        thread = self._acquisition_thread
        if thread is None:
            return super().isSequenceRunning(*([cameraLabel] if cameraLabel else []))
        try:
            thread.join(0)
        except RuntimeError:  # not started yet; or it is this thread
            return True
        return thread.is_alive()


class TaggingEngine(MDAEngine):
    """The usual acquisition engine, which also keeps the camera's tags of software frames.

    A frame of a hardware sequence has them already, under ``camera_metadata``; a snapped one
    loses them on its way through the core.
    """

    def __init__(self, core: UniMMCore, camera: SceneCamera) -> None:
        super().__init__(core)
        self._camera = camera

    def setup_sequence(self, sequence: useq.MDASequence) -> SummaryMetaV1 | None:
        """Count captures from 0 in every run."""
        self._camera.begin_run()
        return super().setup_sequence(sequence)

    def get_frame_metadata(self, *args: Any, **kwargs: Any) -> FrameMetaV1:
        """Add the tags of the frame just snapped."""
        meta = super().get_frame_metadata(*args, **kwargs)
        meta["camera_metadata"] = dict(self._camera.tags)
        return meta


def build_core(
    camera: SceneCamera,
    focus: FocusStage,
    specimen: SpecimenStage,
    *,
    pixel_size_um: float,
    channels: Sequence[str],
) -> UniMMCore:
    """Load the devices into a core, as ``Camera``, ``Z``, ``XY`` and ``Shutter``.

    Every channel is a preset of the group ``Channel`` that changes nothing.
    """
    # a path keeps the core from looking for C++ adapters, and from complaining that it has none
    core = SteadyCore(mm_path=os.path.dirname(__file__))
    for label, device in (
        ("Camera", camera),
        ("Z", focus),
        ("XY", specimen),
        ("Shutter", LightShutter()),
    ):
        core.loadPyDevice(label, device)
        core.initializeDevice(label)
    core.setCameraDevice("Camera")
    core.setFocusDevice("Z")
    core.setXYStageDevice("XY")
    core.setShutterDevice("Shutter")
    core.definePixelSizeConfig("Objective")
    core.setPixelSizeUm("Objective", pixel_size_um)
    core.setPixelSizeConfig("Objective")
    for channel in channels:
        core.defineConfig("Channel", channel)
    core.mda.set_engine(TaggingEngine(core, camera))
    camera.ring = Ring(core)
    quiet_exit(core)
    return core


def quiet_exit(core: CMMCorePlus) -> None:
    """Disconnect the core's callback before the interpreter exits.

    A core that is still alive then, with events pending, aborts the process from C++.
    """
    alive = weakref.ref(core)

    def disconnect() -> None:
        if (still := alive()) is not None:
            super(CMMCorePlus, still).registerCallback(None)

    atexit.register(disconnect)
    weakref.finalize(core, atexit.unregister, disconnect).atexit = False
