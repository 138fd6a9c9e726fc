"""What was received and published is read again on the disk, and what is not there is told."""

import json
import shutil
import threading
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import useq

from refocus.acquisition import attach
from refocus.acquisition.microscopes.simulated import SimulatedMicroscope
from refocus.acquisition.pipeline.layout import layout
from refocus.acquisition.pipeline.on_disk import gone, look, not_on_disk
from refocus.acquisition.pipeline.sink import RunInfo
from refocus.acquisition.sinks.recorder import Recorder
from refocus.configs import RefocusError
from refocus.engine.fake import FakeEngine

from ...conftest import Gated, loops

SEQUENCES = {
    "time-lapse": loops(4),
    "positions, channels and a stack": loops(
        2,
        axis_order="tpcz",
        stage_positions=[{"x": 0, "y": 0, "name": "A"}, (50, 0, 0)],
        channels=["DAPI", "FITC"],
        z_plan={"range": 2, "step": 1},
    ),
    "grid": useq.MDASequence(
        stage_positions=[(0, 0, 0), (500, 0, 0)], grid_plan={"rows": 2, "columns": 2}
    ),
    "grid first": useq.MDASequence(
        axis_order="gpc",
        stage_positions=[(0, 0, 0), (500, 0, 0)],
        grid_plan={"rows": 1, "columns": 2},
        channels=["DAPI"],
    ),
    "ragged": loops(3, channels=["DAPI", {"config": "FITC", "acquire_every": 2}]),
    "mere events": None,
}
EVENTS = [useq.MDAEvent(index={"t": t, "p": t % 2}, channel="DAPI") for t in range(4)]


def acquire(folder, sequence):
    """Acquire and save raw and refocused; give what was attached."""
    raw, sinks = folder / "raw.ome.zarr", [Recorder(folder / "refocused.ome.zarr")]
    with SimulatedMicroscope(frame_shape=(32, 48)) as microscope:
        core = microscope.core
        with attach(core, engine=FakeEngine(), raw=raw, sinks=sinks, refocus_z=True) as live:
            core.mda.run(sequence or iter(EVENTS), output=raw)
    return live


@pytest.mark.parametrize("name", SEQUENCES)
def test_all_that_was_received_and_published_is_found(tmp_path, name):
    live = acquire(tmp_path, SEQUENCES[name])
    count = live.stats.check().received
    assert count == len(list(SEQUENCES[name] or EVENTS))
    raw, refocused = live.stats.saved["raw"], live.stats.saved["refocused"]
    assert (raw["received"], raw["on_disk"]) == (refocused["published"], count) == (count, count)
    assert raw.get("planned") == (count if SEQUENCES[name] else None)
    for file in (raw, refocused):
        assert (file["missing"], file["short"], file["damaged"]) == (0, [], [])
    assert not live.problems


def test_black_frames_are_on_the_disk_too(tmp_path):
    """By which a frame that was black is told from one that is not there."""

    with SimulatedMicroscope(frame_shape=(32, 48)) as microscope:
        core, raw = microscope.core, tmp_path / "raw.ome.zarr"
        inner = core.mda.engine.exec_event

        def exec_event(event):
            for pixels, of, meta in inner(event):
                # those that are not black are, once the engine has inverted them
                yield np.full_like(pixels, 0 if of.index["t"] % 2 else 65_535), of, meta

        core.mda.engine.exec_event = exec_event
        core.mda.engine.use_hardware_sequencing = False
        sinks = [Recorder(tmp_path / "refocused.ome.zarr")]
        with attach(core, engine=FakeEngine(), raw=raw, sinks=sinks) as live:
            core.mda.run(loops(4), output=raw)
    assert [live.stats.saved[name]["on_disk"] for name in ("raw", "refocused")] == [4, 4]
    assert not live.problems


TWO = SEQUENCES["positions, channels and a stack"]
CHUNK = "A/0/c/1/1/2/0/0"


def shrink(path):
    path.write_bytes(path.read_bytes()[:-1])


def crop(path):
    document = json.loads(path.read_text())
    document["shape"][0] = 1
    path.write_text(json.dumps(document))


@pytest.mark.parametrize(
    ("damage", "where", "missing", "said"),
    [
        ("unlink", CHUNK, 1, "1 of 6 of position A, channel FITC"),
        (shrink, CHUNK, 1, "1 of 6 of position A, channel FITC"),
        ("empty", CHUNK, 1, "1 of 6 of position A, channel FITC"),
        ("rmtree", "1/0/c/0", 6, "3 of 6 of position 1, channel DAPI"),
        ("rmtree", "1", 12, "1/0: No such file"),
        ("unlink", "1/0/zarr.json", 12, "1/0: No such file"),
        ("unlink", "1/zarr.json", 12, "no zarr.json of its image"),
        (crop, "A/0/zarr.json", 12, "A/0: is 1×2×3×32×48 uint16, and was laid out as 2×"),
        ("rmtree", ".", 24, "raw.ome.zarr: is gone"),
    ],
)
def test_what_is_removed_or_damaged_is_told(  # noqa: PLR0917
    tmp_path, once, damage, where, missing, said
):
    whole = once("two-positions", lambda folder: folder.mkdir() or acquire(folder, TWO))
    raw = tmp_path / "raw.ome.zarr"
    shutil.copytree(whole / "raw.ome.zarr", raw)
    path = raw / where
    ways = {
        "unlink": lambda path: path.unlink(),
        "empty": lambda path: path.write_bytes(b""),
        "rmtree": shutil.rmtree,
    }
    ways.get(damage, damage)(path)
    camera = {"width": 48, "height": 32, "dtype": "uint16"}
    run = RunInfo("run", sequence=TWO, camera=camera)
    handed = {(p, channel): 6 for p in (0, 1) for channel in ("DAPI", "FITC")}
    found = look(run, layout(run, camera, raw), raw, handed, handed)
    report = found.report("received")
    assert (found.missing, report["on_disk"]) == (missing, 24 - missing)
    assert sum(one["received"] - one["on_disk"] for one in report["short"]) == missing
    (line,) = not_on_disk({"raw": report})
    assert f"{missing} of 24 raw frames that were received" in line
    assert said in line


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (FileNotFoundError(2, "No such file or directory"), "is gone"),
        (NotADirectoryError(20, "Not a directory"), "is gone"),
        (PermissionError(13, "Permission denied"), "cannot be looked at: Permission denied"),
        (OSError(116, "Stale file handle"), "cannot be looked at: Stale file handle"),
        (OSError(5, "Input/output error"), "cannot be looked at: Input/output error"),
    ],
)
def test_a_file_that_cannot_be_looked_at_is_not_gone(tmp_path, monkeypatch, error, said):
    path = tmp_path / "raw.ome.zarr"
    camera = {"width": 48, "height": 32, "dtype": "uint16"}
    settings = layout(RunInfo("run", sequence=TWO, camera=camera), camera, path)

    def fail(self, **how):
        raise error

    monkeypatch.setattr(Path, "stat", fail)
    try:
        told = gone(path, settings)
    except RefocusError as refused:
        assert "is gone" not in said
        told = str(refused)
    assert told.startswith(f"{path / 'zarr.json'}: {said}")


def test_a_disk_that_does_not_answer_for_a_while_ends_neither_the_run_nor_the_watch(
    tmp_path, monkeypatch
):
    """And an engine that hangs then is given up all the same."""
    real, sick, gate, told = Path.stat, threading.Event(), threading.Event(), threading.Event()

    def stat(self, **how):
        if sick.is_set() and self.suffix == ".json":
            raise OSError(116, "Stale file handle")
        return real(self, **how)

    def listen(stats):
        if any("cannot be looked at: Stale file handle" in text for text in live.problems):
            told.set()

    monkeypatch.setattr(Path, "stat", stat)
    with SimulatedMicroscope(frame_shape=(32, 48), fps=50) as microscope:
        core, raw = microscope.core, tmp_path / "raw.ome.zarr"
        sinks, engine = [Recorder(tmp_path / "refocused.ome.zarr")], Gated(gate, free=2)
        with attach(core, engine=engine, raw=raw, sinks=sinks) as live:
            live.events.ticked.connect(listen)
            core.mda.run(loops(20), output=raw)
            sick.set()
            assert told.wait(60)
            monkeypatch.setattr(live._pipeline, "_patience_ns", 1)
            assert live.wait(60)
        gate.set()
    assert any("has not returned for" in text for text in live.problems)
    assert not any("is gone" in text for text in live.problems)


def test_a_disk_that_never_answers_holds_up_nobody_who_tells_of_the_run(tmp_path, monkeypatch):
    """Readers take a run that says nothing for dead."""
    real, asked, gate, heard = Path.stat, threading.Event(), threading.Event(), threading.Event()

    def stat(self, **how):
        if self.suffix == ".json" and threading.current_thread() is not threading.main_thread():
            asked.set()
            gate.wait(60)
        return real(self, **how)

    with SimulatedMicroscope(frame_shape=(32, 48), fps=50) as microscope:
        core, raw = microscope.core, tmp_path / "raw.ome.zarr"
        sinks, engine = [Recorder(tmp_path / "refocused.ome.zarr")], Gated(gate, free=2)
        with attach(core, engine=engine, raw=raw, sinks=sinks) as live:
            core.mda.run(loops(20), output=raw)
            monkeypatch.setattr(Path, "stat", stat)
            live.events.ticked.connect(lambda stats: asked.is_set() and heard.set())
            told = heard.wait(30)
            gate.set()
            assert told
            assert live.wait(60)


@pytest.mark.parametrize("what", ["raw.ome.zarr", "refocused.ome.zarr", "raw.ome.zarr/0"])
def test_what_is_removed_in_mid_run_is_told_before_its_end(tmp_path, what):
    sequence = loops(3000, stage_positions=[(0, 0), (9, 0)], axis_order="tp")
    told, attached, seen = [], [], 0

    def remove(pixels, event):
        nonlocal seen
        seen += 1
        if seen == 10:  # at once, whatever is being written there
            (tmp_path / what).rename(tmp_path / "elsewhere")
        if seen > 10:
            told.extend(attached[0].problems)
            if told:
                core.mda.cancel()

    with SimulatedMicroscope(frame_shape=(32, 48), fps=200) as microscope:
        core, raw = microscope.core, tmp_path / "raw.ome.zarr"
        core.mda.events.frameReady.connect(remove)
        sinks = [Recorder(tmp_path / "refocused.ome.zarr")]
        with attach(core, engine=FakeEngine(), raw=raw, sinks=sinks) as live:
            attached.append(live)
            with suppress(OSError, ValueError):
                core.mda.run(sequence, output=raw)
    assert seen < 6000
    assert any(what in text and "is gone" in text for text in told)
    file = live.stats.saved["refocused" if "refocused" in what else "raw"]
    assert file["missing"] > 0
    assert any("cannot be read from the disk" in text for text in live.problems)
