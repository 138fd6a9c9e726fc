#!/usr/bin/env python3
"""Take the picture of docs/napari.md: a real napari with the widget, beside a simulated microscope.

Needs the extras [napari,qt] and a display; without one, run it under xvfb-run.

    python -m refocus.bench.napari_picture docs/images/napari.jpg
"""

import argparse
import time
from datetime import timedelta
from pathlib import Path

import napari
import useq
from PIL import Image
from qtpy.QtWidgets import QApplication

from refocus.acquisition.microscopes.simulated import SimulatedMicroscope


def work(seconds: float) -> None:
    """Let the GUI do what it has to."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        QApplication.processEvents()
        time.sleep(0.01)


def main() -> None:
    """Acquire a few frames, and take the picture."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("picture", type=Path)
    options = parser.parse_args()
    viewer = napari.Viewer(show=True)
    viewer.window.resize(1400, 720)
    _, widget = viewer.window.add_plugin_dock_widget("refocus-live")
    with SimulatedMicroscope(frame_shape=(320, 320), z_um=8.0, seed=0) as microscope:
        widget.connect_to_core(microscope.core, engine="openvino")
        while "no run yet" not in widget.status:
            work(0.1)
        widget.choose("p", "A2")
        plan = useq.TIntervalLoops(interval=timedelta(seconds=2), loops=3)
        fields = (useq.Position(x=200, y=0, name="A1"), useq.Position(x=0, y=0, name="A2"))
        microscope.core.run_mda(useq.MDASequence(time_plan=plan, stage_positions=fields))
        work(4.0)
        while not widget.status.startswith("the run is over"):
            work(0.1)
        widget.show_side_by_side(True)
        viewer.canvas.overlays.scale_bar.visible = True
        viewer.reset_view()
        work(2.0)
        pixels = viewer.screenshot(canvas_only=False, flash=False)
        Image.fromarray(pixels[..., :3]).save(options.picture, quality=85)
        widget.disconnect_source()
        work(1.0)
    viewer.close()


if __name__ == "__main__":
    main()
