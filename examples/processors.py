"""Processors of your own: functions from frames to a frame, behind the refocusing.

python examples/processors.py
refocus-live run --demo --processor examples/processors.py:median
"""

import numpy as np
import useq
from scipy import ndimage

from refocus.acquisition import attach
from refocus.acquisition.microscopes.simulated import SimulatedMicroscope


def median(first, second, third):
    """Take the noise out of a time-lapse: the median of the last three frames of a place."""
    return np.median([first, second, third], axis=0).astype(third.dtype)


def nuclei(frame):
    """Label the bright regions: pixels are numbers then, of the frame's own shape and dtype."""
    smooth = ndimage.gaussian_filter(frame.astype(np.float32), 2)
    labels, _ = ndimage.label(smooth > smooth.mean() + smooth.std())
    return labels.astype(frame.dtype)


class Count:
    """A sink: it is given what the processor made."""

    def start(self, run):
        """Hear of a run."""
        print(f"processor {run.processor}")

    def put(self, result):
        """Count the labels."""
        print(f"frame {result.captured.frame}: {result.pixels.max()} nuclei")

    def close(self, stats):
        """Hear that the run is over."""
        print(f"{stats.published} published, {stats.unprocessed} not processed")


if __name__ == "__main__":
    with (
        SimulatedMicroscope(frame_shape=(256, 256), z_um=6.0) as microscope,
        attach(microscope.core, processor=nuclei, sinks=[Count()]),
    ):
        microscope.core.run_mda(useq.MDASequence(time_plan={"interval": 0.1, "loops": 3}))
