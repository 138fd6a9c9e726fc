"""Refocus or take again: fields that are too far from focus are acquired once more, where it is.

python examples/refocus_or_take_again.py
"""

import useq

from refocus.acquisition import attach
from refocus.acquisition.microscopes.simulated import SimulatedMicroscope
from refocus.acquisition.sinks.reimaging import Reimaging
from refocus.configs import BBBC006


class Tell:
    """A sink of your own: what is decided travels with each frame."""

    def start(self, run):
        """Hear of a run, before its first frame."""

    def put(self, result):
        """Say what was decided about a frame, and why."""
        field, said = result.captured.index["p"], result.decision
        print(f"field {field}: {said['action']}: {said['why']}" if said else f"field {field}")

    def close(self, stats):
        """Hear that the run is over."""
        print(f"{stats.received} of {stats.planned} frames came")


width_um = 256 * BBBC006.pixel_size_um
plate = useq.MDASequence(stage_positions=[(number * width_um, 0, 0) for number in range(5)])
with SimulatedMicroscope(frame_shape=(256, 256), optics=BBBC006, tilt_um_per_mm=30) as microscope:
    core = microscope.core  # yours: a CMMCorePlus with its configuration loaded
    steering = Reimaging(plate, core, seconds=10, frames=2, limit_um=25)
    with attach(core, sinks=[steering, Tell()]):
        core.run_mda(steering)
