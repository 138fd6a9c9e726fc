"""What a simulated and a replayed microscope share: a core, its devices, and the truth."""

import time
from collections.abc import Sequence
from datetime import timedelta
from typing import Self

import useq
from pymmcore_plus.mda import RunState

from refocus.acquisition.microscopes.devices import SceneCamera, build_core
from refocus.acquisition.microscopes.scene import FIELDS_HELD, Scene, Truth
from refocus.acquisition.microscopes.stages import FocusStage, SpecimenStage
from refocus.configs import RefocusError

CHANNELS = ("DAPI", "FITC", "Cy5", "BF")
"""Channels of a virtual microscope unless told otherwise; all show the same light."""

CLOSE_S = 5.0
"""How long closing waits for a cancelled run to end."""


class VirtualMicroscope:
    """A microscope without hardware, behind a core like any other.

    Hold on to it while the core is in use. It is a context manager that closes itself.

    Attributes
    ----------
    core
        The ``UniMMCore``: camera ``Camera``, focus ``Z``, specimen stage ``XY``, shutter
        ``Shutter``, a pixel-size config, and the channels as presets of the group ``Channel``.
    """

    def __init__(
        self,
        scene: Scene,
        *,
        pixel_size_um: float,
        z_um: float = 0.0,
        fps: float | None = None,
        channels: Sequence[str] = CHANNELS,
    ) -> None:
        if fps is not None and not fps > 0:
            raise RefocusError(f"fps: {fps} frames per second cannot be; give more than 0, or none")
        self._scene = scene
        focus, specimen = FocusStage(z_um), SpecimenStage()
        self._camera = SceneCamera(scene, focus, specimen, fps)
        self.core = build_core(
            self._camera, focus, specimen, pixel_size_um=pixel_size_um, channels=channels
        )

    def truth(self, frame: int) -> Truth:
        """Tell what is known of a captured frame.

        Parameters
        ----------
        frame
            Capture number within the present or last run, from 0; the camera's tag ``capture``.

        Raises
        ------
        RefocusError
            No such frame was captured, or it is more than 100,000 frames ago.
        """
        try:
            moment = self._camera.moment(frame)
        except KeyError:
            raise RefocusError(
                f"frame {frame}: the camera has not captured it in this run, or it is too long ago"
            ) from None
        return self._scene.truth(moment)

    def sequence(self, frames: int) -> useq.MDASequence:
        """Describe a run of so many frames, as fast as the camera gives them."""
        return useq.MDASequence(time_plan=useq.TIntervalLoops(interval=timedelta(0), loops=frames))

    def look_ahead(self, sequence: useq.MDASequence) -> None:
        """Compute what a sequence will see at its first positions, so that no frame waits for it.

        Drawing a field of view takes seconds at 2048², in which a camera with a rate stands still.
        """
        x_um, _ = self.core.getXYPosition()
        z_um = self.core.getZPosition()
        for position in sequence.stage_positions[:FIELDS_HELD]:
            x_um = x_um if position.x is None else position.x
            z_um = z_um if position.z is None else position.z
            self._camera.look_ahead(x_um, z_um)

    def warm_up(self, frames: int = 16) -> None:
        """Capture so many frames and throw them away.

        The first pass through the core's ring is several times slower than the rest, because
        the system has yet to find memory for it. Worth it before a fast run of large frames.
        """
        with self._camera.unpaced():
            self.core.startSequenceAcquisition(frames, 0, False)
            while self.core.isSequenceRunning() or self.core.getRemainingImageCount():
                if self.core.getRemainingImageCount():
                    self.core.popNextImage()
                else:
                    time.sleep(0.001)
        self._camera.begin_run()

    def close(self) -> None:
        """Stop whatever is running and unload the devices. May be called twice."""
        self.core.mda.cancel()
        until = time.monotonic() + CLOSE_S
        while self.core.mda.status.phase != RunState.IDLE and time.monotonic() < until:
            time.sleep(0.005)
        if self.core.isSequenceRunning():
            self.core.stopSequenceAcquisition()
        if not self.core.mda.is_running():  # else unloading would wait for the camera's frame
            self.core.unloadAllDevices()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
