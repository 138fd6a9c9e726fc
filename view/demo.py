"""The simulated microscope of ``refocus-live run --demo``, on and on, for the viewer to show.

It runs in a process of its own, so that the engine does not slow the page: ``python -m
refocus.view.demo ENDPOINT``. It ends when its standard input does, that is, with the viewer.
"""

import subprocess
import sys
import threading
from contextlib import suppress
from datetime import timedelta
from typing import Self

import useq

from refocus.configs.command import make_console
from refocus.configs.terminal import log_to
from refocus.engine.protocol import Engine

FPS = 8.0
"""Frames per second, where the engine keeps up; else the microscope waits for it."""

CYCLES = 450
"""Visits to every field in one run: about ten minutes."""

STAGE_UM = (0.0, 6.0, 12.0, 28.0)
"""Distance from focus of each field of view, µm."""

CHANNELS = (("DAPI", 10.0), ("FITC", 4.0))
"""Each with its exposure, ms."""


class Demo:
    """Runs the microscope while it is entered.

    Parameters
    ----------
    endpoint
        Where to publish.
    engine
        As of ``refocus-live run``.
    """

    def __init__(self, endpoint: str, engine: str = "auto") -> None:
        self._command = [sys.executable, "-m", "refocus.view.demo", endpoint, engine]
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(self._command, stdin=subprocess.PIPE)
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()


def demo_sequence(field_um: float) -> useq.MDASequence:
    """Visit the fields in turn, in each channel, again and again."""
    return useq.MDASequence(
        axis_order=tuple("tpc"),
        stage_positions=tuple(
            useq.Position(x=i * field_um, y=0.0, z=z, name=f"field {i + 1}")
            for i, z in enumerate(STAGE_UM)
        ),
        channels=tuple(
            useq.Channel(group="Channel", config=name, exposure=ms) for name, ms in CHANNELS
        ),
        time_plan=useq.TIntervalLoops(interval=timedelta(0), loops=CYCLES),
    )


def acquire(endpoint: str, engine: str | Engine, over: threading.Event) -> None:
    """Acquire run after run until ``over`` is set."""
    from refocus.acquisition.command.sources import open_source
    from refocus.acquisition.hook import attach
    from refocus.configs.live_config import LiveConfig

    config = LiveConfig(demo=True, fps=FPS)
    with open_source(config) as source:
        core = source.core
        sequence = demo_sequence(config.size * core.getPixelSizeUm())
        with attach(
            core, engine=engine, publish=endpoint, publish_raw=True, queue=1, throttle=True
        ) as live:
            while not over.is_set():
                thread = core.run_mda(sequence)
                while thread.is_alive() and not over.wait(0.1):
                    pass
                while thread.is_alive():  # again and again: before it begins, a cancel is lost
                    core.mda.cancel()
                    thread.join(0.1)
                live.wait(10)


def main() -> None:
    """Acquire until standard input ends."""
    log_to(make_console(stderr=True), "refocus-view", "pymmcore-plus")
    over = threading.Event()
    endpoint, engine = sys.argv[1:]

    def watch() -> None:
        sys.stdin.buffer.read()
        over.set()

    threading.Thread(target=watch, daemon=True).start()
    with suppress(KeyboardInterrupt):  # it reaches the whole terminal; the viewer tells of it
        acquire(endpoint, engine, over)


if __name__ == "__main__":
    main()
