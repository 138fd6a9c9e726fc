"""What is known of each frame is on the disk as it comes, and in the OME-Zarr at the end."""

import gc
import json
import logging
import sys
import tracemalloc
from pathlib import Path

import pytest
import useq

from refocus.acquisition import attach
from refocus.acquisition.sinks.frame_lines import FrameLines, lines_path, read_lines
from refocus.acquisition.sinks.recorder import Recorder
from refocus.configs import RefocusError
from refocus.engine.fake import FakeEngine

from ...conftest import loops

PLACES = loops(3, stage_positions=[(0, 0, 1), (9, 0, 2)], channels=["DAPI", "FITC"])


def in_zarr(root):
    """Read the metadata of all frames of an OME-Zarr, by the group that they are in."""
    found = {}
    for document in root.rglob("zarr.json"):
        attributes = json.loads(document.read_text()).get("attributes", {})
        if frames := attributes.get("ome_writers", {}).get("frame_metadata"):
            found[str(document.parent.relative_to(root))] = frames
    return found


@pytest.fixture
def save(microscope, tmp_path):
    """Give a function that acquires and saves, and calls another one after each frame."""

    def run(sequence, on_frame=lambda *_: None, attached=True, **settings):
        raw, core = tmp_path / "raw.ome.zarr", microscope.core
        core.mda.events.frameReady.connect(on_frame)
        if not attached:
            core.mda.run(sequence, output=raw)
            return raw
        sinks = [Recorder(tmp_path / "refocused.ome.zarr")]
        with attach(core, engine=FakeEngine(), raw=raw, sinks=sinks, **settings) as live:
            run.live = live
            core.mda.run(sequence, output=raw)
        assert not live.problems
        return raw

    return run


def test_a_line_is_there_before_the_next_frame(save, tmp_path):
    raw, counts = tmp_path / "raw.ome.zarr", []
    save(PLACES, lambda pixels, event: counts.append(len(list(read_lines(raw)))))
    assert counts == list(range(1, 13))
    first, *refocused = read_lines(tmp_path / "refocused.ome.zarr")
    assert useq.MDASequence(**first["refocus"]["sequence"]) == PLACES
    assert sorted(line["place"] for line in refocused) == list(range(12))
    assert {line["channel"] for line in refocused} == {"DAPI", "FITC"}


def test_the_zarr_has_at_the_end_what_its_writer_would_have_written(save, tmp_path):
    alone = save(PLACES, attached=False)
    expected = in_zarr(alone)
    alone.rename(tmp_path / "alone.ome.zarr")
    led = in_zarr(save(PLACES))
    assert list(led) == list(expected)
    for group, frames in expected.items():
        assert [frame.keys() for frame in led[group]] == [frame.keys() for frame in frames]
        for key in ("storage_index", "exposure_time", "position_z"):
            assert [f.get(key) for f in led[group]] == [f.get(key) for f in frames]
    assert sum(map(len, in_zarr(tmp_path / "refocused.ome.zarr").values())) == 12


def test_who_detaches_in_mid_run_takes_nothing_along(save, microscope, tmp_path):
    seen = []

    def detach(pixels, event):
        seen.append(event)
        if len(seen) == 5:
            save.live.detach()

    raw = save(PLACES, detach)
    assert sum(map(len, in_zarr(raw).values())) == len(seen) == 12


def test_what_a_kill_left_half_written_is_passed_over(tmp_path):
    lines = FrameLines(tmp_path / "raw.ome.zarr")
    lines.add({"group": ".", "frame": 0})
    lines.close()
    lines.add({"frame": 1})  # closed: nobody expects it
    with lines.path.open("ab") as file:
        file.write(b'{"group": ".", "fra')
    assert list(read_lines(tmp_path / "raw.ome.zarr")) == [{"group": ".", "frame": 0}]
    with pytest.raises(RefocusError, match=r"other\.frames\.jsonl: not readable: No such file"):
        list(read_lines(tmp_path / "other.ome.zarr"))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a disk that is always full")
def test_a_disk_that_takes_no_line_is_told_of_once(tmp_path, caplog):
    lines_path(tmp_path / "raw.ome.zarr").symlink_to("/dev/full")
    lines = FrameLines(tmp_path / "raw.ome.zarr")
    for number in range(3):
        lines.add({"frame": number})
    lines.close()
    (record,) = caplog.records
    assert "no more metadata are written: No space left" in record.getMessage()


@pytest.mark.skipif(sys.implementation.name != "cpython", reason="counts the memory of CPython")
def test_nothing_stays_in_memory_of_a_frame_that_was_saved(save, microscope, caplog):
    caplog.set_level(logging.CRITICAL, "pymmcore-plus")  # pytest keeps every line
    caplog.set_level(logging.CRITICAL, "refocus")
    microscope.core.mda.engine.use_hardware_sequencing = False  # no time limit on a frame
    took, seen = [], 0

    def measure(pixels, event):
        nonlocal seen
        seen += 1
        if seen in (200, 1200):
            gc.collect()
            tracemalloc.start()
            took.append(tracemalloc.get_traced_memory()[0])

    try:
        save(loops(1200), measure, throttle=True, queue=1)
    finally:
        tracemalloc.stop()
    early, late = took
    # bytes a frame, by frames; it was 2,200, and what is on its way to the disk is some 100
    assert late - early < 500 * 1000
