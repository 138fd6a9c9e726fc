"""Attach to your own core: everything that it acquires is refocused while it runs.

python examples/attach_to_your_core.py                            # the simulated microscope
python examples/attach_to_your_core.py --mm-config MMConfig.cfg   # yours
"""

import argparse
import contextlib
from collections.abc import Iterator
from pathlib import Path

import useq
from pymmcore_plus import CMMCorePlus

from refocus.acquisition import FrameResult, attach
from refocus.acquisition.microscopes.simulated import SimulatedMicroscope


class Sharpness:
    """A sink of your own: it is given every result, in the order of capture, on another thread.

    If it is slow, frames wait for it, and are dropped; the acquisition never does.
    """

    def start(self, run):
        """Hear of a run, before its first frame."""
        print(f"run {run.run[:8]} with {run.engine['name']} {run.engine['model']}")

    def put(self, result: FrameResult):
        """Take a result. Its pixels are shared: read them, never write."""
        before, after = result.captured.pixels, result.pixels
        gain = after.astype(float).std() / max(before.astype(float).std(), 1e-9)
        index = " ".join(f"{axis}={place}" for axis, place in result.captured.index.items())
        print(f"frame {result.captured.frame} ({index}): {gain:.2f} times the contrast")

    def skip(self, frame, reason):
        """Hear of a frame without a result."""
        print(f"frame {frame.frame}: {reason}")

    def close(self, stats):
        """Hear that the run is over."""
        print(f"{stats.published} of {stats.received} frames refocused")


@contextlib.contextmanager
def open_core(mm_config: Path | None) -> Iterator[CMMCorePlus]:
    """Give your core, or a simulated one 9 µm out of focus."""
    if mm_config is None:
        with SimulatedMicroscope(frame_shape=(256, 256), z_um=9.0) as microscope:
            yield microscope.core
        return
    core = CMMCorePlus()
    core.loadSystemConfiguration(mm_config)
    yield core
    core.unloadAllDevices()


def main() -> None:
    """Acquire a short time-lapse."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--mm-config", type=Path, help="Micro-Manager hardware configuration")
    parser.add_argument("--frames", type=int, default=5)
    parser.add_argument("--save", type=Path, help="OME-Zarr for the raw frames")
    options = parser.parse_args()
    sequence = useq.MDASequence(time_plan={"interval": 0.2, "loops": options.frames})
    with open_core(options.mm_config) as core, attach(core, sinks=[Sharpness()]) as live:
        # the acquisition saves its raw frames itself, and refocusing cannot touch them
        core.run_mda(sequence, output=options.save)
    print(f"{live.stats.latency_ms.p50:.0f} ms from capture to result, in the median")


if __name__ == "__main__":
    main()
