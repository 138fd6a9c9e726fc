"""How much of an engine's rate a live run keeps: a simulated camera, judged, without a reader."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from refocus.acquisition.hook import attach
from refocus.acquisition.microscopes.simulated import SimulatedMicroscope
from refocus.configs import BBBC006
from refocus.engine.protocol import Engine, Frame

FPS = 100.0
"""Of the paced camera."""
DEFOCUS_UM = 8.0
FEWEST, MOST = 10, 400

Alone = Callable[[Engine, Frame], float]
"""Measures the seconds that an engine alone takes for a frame."""


def measure_live(
    name: str, engine: Engine, shape: tuple[int, int], seconds: float, alone: Alone
) -> Iterator[dict[str, Any]]:
    """Make a run paced at 100 frames per second, and one as fast as the engine can.

    Parameters
    ----------
    name, engine
        Whose rows they are.
    shape
        Height and width of the frames.
    seconds
        What a run should last.
    alone
        Measures the engine alone, on a frame of the run.
    """
    for fps in (FPS, None):
        with _microscope(shape, fps) as microscope:
            frame = microscope.core.snap()
            each = alone(engine, frame)
            rate = 1 / each if fps is None else min(fps, 1 / each)
            frames = int(np.clip(seconds * (fps or rate), FEWEST, MOST))
            live = attach(microscope.core, engine=engine, throttle=fps is None, live_mode=False)
            try:
                microscope.core.mda.run(microscope.sequence(frames))
            finally:
                live.detach()
        stats = live.stats.check()
        yield {
            "engine": name,
            "frame": f"{shape[0]}x{shape[1]}",
            "camera": "unpaced" if fps is None else f"{fps:g} frames/s",
            "alone_fps": 1 / each,
            "published_fps": stats.fps,
            "over_alone": stats.fps / rate,
            "latency_p50_ms": stats.latency_ms.p50,
            "latency_p99_ms": stats.latency_ms.p99,
            "published": stats.published,
            "dropped": stats.dropped,
            "verdicts": dict(stats.verdicts),
        }


@contextmanager
def _microscope(shape: tuple[int, int], fps: float | None) -> Iterator[SimulatedMicroscope]:
    with SimulatedMicroscope(
        frame_shape=shape, optics=BBBC006, z_um=DEFOCUS_UM, fps=fps
    ) as microscope:
        microscope.warm_up()
        yield microscope
