"""Twelve minutes of frames (``make soak``): memory stays flat, every frame is accounted for.

``REFOCUS_SOAK_SECONDS`` makes them shorter: so long are the runs back to back, and the one long run
that is saved a quarter of it.
"""

import gc
import logging
import os
import shutil
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from refocus.acquisition import attach, subscribe
from refocus.acquisition.microscopes.simulated import SimulatedMicroscope
from refocus.acquisition.sinks.recorder import Recorder
from refocus.engine.fake import FakeEngine

from ..conftest import loops

SECONDS = float(os.environ.get("REFOCUS_SOAK_SECONDS", "600"))


def resident_mb():
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGESIZE") / 2**20


@pytest.mark.soak
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads memory as Linux tells it")
def test_memory_is_flat_and_the_accounts_are_exact(caplog):
    """Runs back to back, an engine slower than the camera, a reader that follows, live mode too."""
    # pytest keeps every line that is logged, and one of pymmcore-plus holds all events of a run
    caplog.set_level(logging.CRITICAL, "pymmcore-plus")
    sequence = loops(500)  # one and the same: useq caches what it works out of each, for ever
    megabytes, threads, received = [], [], 0
    begun = time.monotonic()
    with SimulatedMicroscope(frame_shape=(256, 256), fps=200) as microscope:
        core = microscope.core
        with attach(core, engine=FakeEngine(0.008), publish="tcp://127.0.0.1:*") as live:

            def read():
                nonlocal received
                with subscribe(live.endpoint, timeout=60, runs=None) as subscription:
                    for _ in subscription:
                        received += 1
                        if done.is_set():
                            return

            done = threading.Event()
            reader = threading.Thread(target=read, daemon=True)
            reader.start()
            while time.monotonic() < begun + SECONDS:
                core.mda.run(sequence)
                assert live.wait(60)
                stats = live.stats.check()
                assert stats.received + stats.camera_gaps >= 500
                assert stats.received == stats.published + stats.dropped
                core.startContinuousSequenceAcquisition()
                time.sleep(0.3)
                core.stopSequenceAcquisition()
                assert live.wait(60)
                live.stats.check()
                megabytes.append(resident_mb())
                threads.append(threading.active_count())
            done.set()
            core.mda.run(loops(100))
        reader.join(10)
    warm = max(2, len(megabytes) // 5)  # the ring of the core fills first
    early, late = np.median(megabytes[warm : 2 * warm]), np.median(megabytes[-warm:])
    print(f"{len(megabytes)} rounds, {received} received, {early:.1f} MB, then {late:.1f} MB")
    assert received > 0
    assert late <= 1.02 * early
    assert max(threads[warm:]) <= max(threads[:warm])


@pytest.mark.soak
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads memory as Linux tells it")
def test_memory_is_flat_in_one_long_run_that_is_saved(tmp_path, caplog, monkeypatch):
    """At 250 frames per second, raw and refocused, and all that is known of each frame."""
    caplog.set_level(logging.CRITICAL, "pymmcore-plus")
    caplog.set_level(logging.CRITICAL, "refocus")
    # the simulated camera remembers where each frame was taken: no real one does
    monkeypatch.setattr("refocus.acquisition.microscopes.devices.REMEMBERED", 100)
    frames, megabytes = int(250 * SECONDS / 4), []
    with SimulatedMicroscope(frame_shape=(64, 64), fps=250) as microscope:
        core, raw = microscope.core, tmp_path / "raw.ome.zarr"
        core.mda.engine.use_hardware_sequencing = False  # all events of a burst are in memory

        def measure(pixels, event):
            if event.index["t"] % max(1, frames // 40) == 0:
                megabytes.append(resident_mb())

        core.mda.events.frameReady.connect(measure)
        sinks = [Recorder(tmp_path / "refocused.ome.zarr")]
        with attach(core, engine=FakeEngine(), raw=raw, sinks=sinks) as live:
            core.mda.run(loops(frames), output=raw)
        saved = live.stats.check().saved
    warm = len(megabytes) // 4
    early, late = np.median(megabytes[warm : 2 * warm]), np.median(megabytes[-warm:])
    print(f"{frames} frames saved, {early:.1f} MB, then {late:.1f} MB")
    shutil.rmtree(tmp_path)
    assert saved["raw"]["on_disk"] == saved["refocused"]["on_disk"] == frames
    assert late <= 1.05 * early  # what once waited for a slow disk stays with the process
