"""What a run still owes is refocused afterwards: exactly those frames, and once."""

import json
import shutil

import numpy as np
import pytest
import useq
from typer.testing import CliRunner

from refocus.acquisition import attach
from refocus.acquisition.command.cli import app
from refocus.acquisition.command.finish import SavedRun, finish
from refocus.acquisition.microscopes.simulated import SimulatedMicroscope
from refocus.acquisition.selection import Selection
from refocus.acquisition.sinks.frame_lines import FrameLines, lines_path, read_lines
from refocus.acquisition.sinks.recorder import Recorder
from refocus.configs import RefocusError
from refocus.engine.fake import FakeEngine
from refocus.engine.protocol import EngineError

from ...conftest import Listening, loops, zarr_arrays

PLACES = loops(
    3,
    axis_order="tpc",
    stage_positions=[{"x": 0, "y": 0, "name": "A"}, (50, 0, 0)],
    channels=["DAPI", "BF"],
)
STACK = loops(2, axis_order="tpz", stage_positions=[(0, 0, 0)], z_plan={"range": 2, "step": 1})
RAGGED = loops(3, channels=["DAPI", {"config": "FITC", "acquire_every": 2}])


def acquire(folder, sequence=PLACES, policy="every", optics=None, engine=None, **selection):
    """Make a run that owes nothing."""
    folder.mkdir()
    raw, sinks = folder / "raw.ome.zarr", [Recorder(folder / "refocused.ome.zarr")]
    chosen = Selection(**selection)
    with SimulatedMicroscope(frame_shape=(32, 48)) as microscope:
        core = microscope.core
        with attach(
            core,
            engine=engine or FakeEngine(),
            raw=raw,
            sinks=sinks,
            policy=policy,
            selection=chosen,
            optics=optics,
        ):
            events = iter(sequence) if isinstance(sequence, list) else sequence
            core.mda.run(events, output=raw)
    return folder


def forget(folder, places):
    """Leave a run as a kill does: places empty, some with a line, and some without."""
    lines = lines_path(folder / "refocused.ome.zarr")
    kept = []
    for text in lines.read_text().splitlines():
        line = json.loads(text)
        if line.get("place") in places:
            chunk = "/".join(map(str, line["storage_index"]))
            array = folder / "refocused.ome.zarr" / line["group"] / "0"
            shutil.rmtree(array / "c" / chunk)
        if line.get("place") not in places[::2]:
            kept.append(text)
    lines.write_text("\n".join([*kept, '{"group": "A", "delt']))


def pixels(folder):
    return zarr_arrays(folder / "refocused.ome.zarr")


def written(folder):
    """Say when each chunk was written."""
    chunks = (p for p in (folder / "refocused.ome.zarr").rglob("0/c/**/*") if p.is_file())
    return {chunk: chunk.stat().st_mtime_ns for chunk in chunks}


@pytest.mark.parametrize(
    ("sequence", "selection", "owed", "handed_on", "left_out"),
    [
        (PLACES, {}, [1, 2, 7, 11], 0, 0),
        (PLACES, {"channels": {"DAPI": "auto"}}, [0, 1, 6, 7], 2, 0),
        (PLACES, {"every_nth": 2}, [0, 9], 0, 4),
        (PLACES, {"region": (4, 0, 32, 32)}, [3, 4], 0, 0),
        (STACK, {}, [0, 4], 2, 0),
        (STACK, {"refocus_z": True}, [0, 5], 0, 0),
        (RAGGED, {}, [2, 4], 0, 0),
        ([useq.MDAEvent(index={"t": t}) for t in range(4)], {}, [0, 3], 0, 0),
    ],
)
def test_exactly_the_frames_that_are_owed_are_refocused(  # noqa: PLR0917
    tmp_path, sequence, selection, owed, handed_on, left_out
):
    run = acquire(tmp_path / "run", sequence, **selection)
    expected, known = pixels(run), list(read_lines(run / "refocused.ome.zarr"))
    forget(run, owed)
    before = written(run)
    assert len(before) == len(list(sequence)) - len(owed) - left_out
    engine = FakeEngine()
    done = finish(SavedRun(run), engine)
    assert (done.refocused, done.handed_on) == (len(owed) - handed_on, handed_on)
    assert (done.failed, done.left_out) == (0, left_out)
    assert done.partners == done.raw - left_out == len(before) + len(owed)
    assert engine.calls == len(owed) - handed_on
    after = written(run)
    assert {path: after[path] for path in before} == before
    for group, array in expected.items():
        np.testing.assert_array_equal(pixels(run)[group], array)
    lines = {line.get("place", -1): line for line in read_lines(run / "refocused.ome.zarr")}
    for line in known:
        now = lines.pop(line.get("place", -1))
        for key in ("group", "index", "channel", "refocused", "trust", "exposure_time"):
            assert now.get(key) == line.get(key)
    assert not lines
    frames = [
        frame
        for document in (run / "refocused.ome.zarr").rglob("zarr.json")
        for frame in json.loads(document.read_text())
        .get("attributes", {})
        .get("ome_writers", {})
        .get("frame_metadata", [])
    ]
    assert len(frames) == done.partners
    again = finish(SavedRun(run), engine)
    assert (again.there, again.refocused, again.handed_on) == (done.partners, 0, 0)
    assert engine.calls == len(owed) - handed_on
    assert written(run) == after


class Failing(FakeEngine):
    def refocus(self, frame):
        raise EngineError("this engine fails")


def test_a_frame_that_cannot_be_refocused_stays_owed_and_is_told(tmp_path):
    run = acquire(tmp_path / "run")
    forget(run, [5])
    assert finish(SavedRun(run), Failing()).failed == 1
    about = json.loads((run / "refocused.ome.zarr" / "zarr.json").read_text())["attributes"]
    (gap,) = about["refocus"]["gaps"]["listed"]
    assert gap["reason"] == "failed: this engine fails"
    assert finish(SavedRun(run), FakeEngine()).refocused == 1
    about = json.loads((run / "refocused.ome.zarr" / "zarr.json").read_text())["attributes"]
    assert about["refocus"]["gaps"]["count"] == 0


def test_raw_frames_that_never_came_are_not_owed(tmp_path):
    run = acquire(tmp_path / "run")
    forget(run, [5, 6])
    for group, index in (("A", "1/1"), ("1", "2/0")):
        shutil.rmtree(run / "raw.ome.zarr" / group / "0" / "c" / index)
    done = finish(SavedRun(run), FakeEngine())
    assert (done.raw, done.refocused) == (10, 1)


def test_a_run_that_goes_on_is_left_alone(tmp_path):
    pytest.importorskip("fcntl")
    run = acquire(tmp_path / "run")
    writing = FrameLines(run / "refocused.ome.zarr", append=True)
    with pytest.raises(RefocusError, match=r"is being written by a run; wait until it is over"):
        finish(SavedRun(run), FakeEngine())
    writing.close()
    assert finish(SavedRun(run), FakeEngine()).refocused == 0


def damaged(run):
    (run / "refocused.frames.jsonl").write_text('{"refocus": {"run": 1}}\n')


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (shutil.rmtree, "not a run that was saved: no raw.ome.zarr; give the folder"),
        (lambda run: (run / "refocused.frames.jsonl").unlink(), "no refocused.frames.jsonl"),
        (damaged, "its first line does not describe a run"),
        (
            lambda run: shutil.rmtree(run / "refocused.ome.zarr" / "A"),
            "cannot be finished: No such",
        ),
    ],
)
def test_what_is_no_run_is_refused_in_one_line(tmp_path, change, said):
    run = acquire(tmp_path / "run")
    change(run)
    with pytest.raises(RefocusError) as caught:
        finish(SavedRun(run), FakeEngine())
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_another_model_and_another_policy_are_refused(tmp_path, model_file):
    from refocus.engine import open_engine

    run = acquire(tmp_path / "run")
    engine = open_engine(model_file)
    with pytest.raises(RefocusError, match=r"by the model none, and this is random \w{12}; give"):
        finish(SavedRun(run), engine)
    engine.close()
    newest = acquire(tmp_path / "newest", policy="newest", optics={"pixel_size_um": 0.3, "na": 0.8})
    with pytest.raises(RefocusError, match=r"the policy of that run was newest, which owes") as e:
        SavedRun(newest)
    assert "NEW.ome.zarr --na 0.8 --pixel-size-um 0.3 refocuses all of it" in str(e.value)


def test_the_model_of_the_run_is_taken_where_it_ships(tmp_path):
    folder = acquire(tmp_path / "run", engine="any-objective")
    forget(folder, [1])
    done = CliRunner().invoke(app, ["finish", str(folder), "--engine", "openvino", "--json"])
    assert json.loads(done.stdout)["refocused"] == 1
    newest = acquire(tmp_path / "newest", policy="newest", engine="any-objective")
    with pytest.raises(RefocusError, match=r"NEW.ome.zarr --engine any-objective refocuses all"):
        SavedRun(newest)


def test_what_was_told_of_the_optics_is_told_again(tmp_path):
    told = {"na": 0.75, "pixel_size_um": 0.3, "channels": {"BF": {"emission_um": 0.6}}}
    folder = acquire(tmp_path / "run", optics=told)
    forget(folder, [0, 1, 2])
    engine = Listening()
    assert finish(SavedRun(folder), engine).refocused == 3
    assert {(path.na, path.pixel_size_um) for path in engine.heard} == {(0.75, 0.3)}
    assert {path.emission_um for path in engine.heard} == {0.0, 0.6}
