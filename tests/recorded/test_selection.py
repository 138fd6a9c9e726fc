"""What is chosen of recorded data is what would be chosen of live frames."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import tifffile
from typer.testing import CliRunner

from refocus.acquisition.command.cli import app
from refocus.bench.plates import write_plate
from refocus.configs import RefocusError
from refocus.engine.fake import FakeEngine
from refocus.engine.protocol import EngineError
from refocus.recorded.process import process
from refocus.recorded.refocusing import Options
from refocus.recorded.selection import Selection
from refocus.recorded.staff import crew_of
from refocus.recorded.work import Processed

from .test_plate import read_array
from .test_what_is_kept import write_zarr

PLANES = np.random.default_rng(0).integers(0, 4096, (2, 64, 96)).astype(np.uint16)


def run(source: Path, target: Path, **chosen: Any) -> Processed:
    engine, seen = FakeEngine(), []
    done = process(
        source,
        target,
        engine,
        seen.append,
        Options(selection=Selection(**chosen)),
    )
    assert engine.calls == done.refocused
    assert len(seen) == done.regions == done.refocused
    return done


@pytest.fixture
def plate(tmp_path: Path) -> Path:
    path = tmp_path / "in.ome.zarr"
    write_plate(path, (2, 3), 1, lambda *place: PLANES, ("DAPI", "FITC"))
    return path


@pytest.mark.parametrize("others", [{}, {"DAPI": "none"}])
def test_a_channel_without_a_model_stays_as_captured(
    tmp_path: Path, plate: Path, others: dict[str, str]
) -> None:
    done = run(plate, tmp_path / "out.zarr", channels={"FITC": "auto", **others})
    assert (done.refocused, done.as_captured.total()) == (6, 6)
    written = read_array(tmp_path / "out.zarr/B/3/0/0")
    np.testing.assert_array_equal(written, [PLANES[0], np.invert(PLANES[1])])
    with open(tmp_path / "out.zarr/tables/refocus/table.csv", newline="") as file:
        lines = list(csv.DictReader(file))
    assert [line["verdict"] for line in lines[:2]] == ["", "unrated"]
    why = "channel DAPI: --channel gives it no model"
    assert [line["as_captured"] for line in lines[:2]] == [why, ""]


@pytest.mark.parametrize(
    ("channel", "says"),
    [
        ("DAPI", "channel DAPI: --channel gives it no model"),
        ("", "its planes name no channel; leave --channel out"),
    ],
)
def test_it_says_why_a_plane_is_left(channel: str, says: str) -> None:
    assert Selection(channels={"FITC": "auto"}).left(channel, in_stack=False) == says


def test_a_channel_that_is_not_there_is_named(
    tmp_path: Path, plate: Path, caplog: pytest.LogCaptureFixture
) -> None:
    channels = {"DAPI": "auto", "TYPO": "auto", "BF": "none"}
    assert run(plate, tmp_path / "out.zarr", channels=channels).refocused == 6
    (line,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert line == f"{plate}: no plane is of channel TYPO; there are DAPI, FITC"


def test_a_channel_has_its_own_model(tmp_path: Path, plate: Path, model_file: Path) -> None:
    run_with = Selection(channels={"DAPI": str(model_file), "FITC": "fake"})
    process(
        plate,
        tmp_path / "out.zarr",
        FakeEngine(),
        lambda done: None,
        Options(selection=run_with),
    )
    with open(tmp_path / "out.zarr/tables/refocus/table.csv", newline="") as file:
        models = [(line["channel"], line["model"]) for line in csv.DictReader(file)]
    assert models == [("DAPI", "random"), ("FITC", "")] * 6


def test_only_the_region_is_refocused(tmp_path: Path, plate: Path) -> None:
    run(plate, tmp_path / "out.zarr", region=(16, 8, 40, 32))
    wanted = PLANES.copy()
    wanted[:, 8:40, 16:56] = np.invert(wanted[:, 8:40, 16:56])
    np.testing.assert_array_equal(read_array(tmp_path / "out.zarr/A/1/0/0"), wanted)


def test_a_region_that_reaches_beyond_a_plane_is_refused_in_a_line(
    tmp_path: Path, plate: Path
) -> None:
    with pytest.raises(
        RefocusError, match=r"A/1/0, plane .*: region 80,0,32,32: reaches beyond the frame of 96×64"
    ):
        run(plate, tmp_path / "out.zarr", region=(80, 0, 32, 32))
    assert [path.name for path in tmp_path.iterdir()] == [plate.name]


@pytest.mark.parametrize("failing", [None, 0, 1])
def test_a_plane_whose_region_fails_is_left_out_as_a_whole(
    tmp_path: Path, plate: Path, failing: int | None
) -> None:
    class Failing(FakeEngine):
        def refocus(self, frame: Any) -> Any:
            if failing is not None and frame[0, 0] == PLANES[failing, 0, 0]:
                raise EngineError("not this one")
            return super().refocus(frame)

    options = Options(selection=Selection(region=(16, 8, 40, 32)))
    process(plate, tmp_path / "out.zarr", Failing(), lambda done: None, options, keep_going=True)
    written = read_array(tmp_path / "out.zarr/A/1/0/0")
    for number, plane in enumerate(written):
        assert (plane == 0).all() == (number == failing)


def test_workers_have_the_models_of_the_channels(
    tmp_path: Path, plate: Path, model_file: Path
) -> None:
    options = Options(selection=Selection({"DAPI": str(model_file), "FITC": "fake"}))
    target, engine = tmp_path / "out.zarr", FakeEngine()
    crew = crew_of(plate, target, "fake", engine.info, options, workers=2)
    done = process(plate, target, engine, lambda done: None, options, crew=crew)
    assert (done.refocused, engine.calls) == (12, 0)
    process(plate, tmp_path / "alone.zarr", engine, lambda done: None, options)
    for well in ("A/1", "B/3"):
        alone = read_array(tmp_path / "alone.zarr" / well / "0/0")
        np.testing.assert_array_equal(read_array(target / well / "0/0"), alone)


def test_another_file_of_a_model_goes_on_with_nothing(
    tmp_path: Path, plate: Path, model_file: Path
) -> None:
    model = tmp_path / "dapi.onnx"
    model.write_bytes(model_file.read_bytes())
    options = Options(selection=Selection({"DAPI": str(model), "FITC": "auto"}))

    class Ending(FakeEngine):
        def refocus(self, frame: Any) -> Any:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        process(plate, tmp_path / "out.zarr", Ending(), lambda done: None, options)
    other = onnx.load(model)
    other.doc_string = "another"
    onnx.save(other, model)
    with pytest.raises(RefocusError, match="begun with another models"):
        process(plate, tmp_path / "out.zarr", FakeEngine(), lambda done: None, options)


def write_stack(path: Path, kind: str, axes: str) -> None:
    if kind == "zarr":
        write_zarr(path, [PLANES], axes)
    elif kind == "ome":
        tifffile.imwrite(path, PLANES, ome=True, metadata={"axes": axes.upper()})
    else:
        tifffile.imwrite(path, PLANES, imagej=True, metadata={"axes": axes.upper()})


@pytest.mark.parametrize(
    ("kind", "name"), [("zarr", "{}.zarr"), ("ome", "{}.ome.tif"), ("imagej", "{}.tif")]
)
def test_planes_of_a_stack_stay_as_captured_unless_they_are_asked_for(
    tmp_path: Path, kind: str, name: str
) -> None:
    source, target = tmp_path / name.format("in"), tmp_path / name.format("out")
    write_stack(source, kind, "zyx")
    with pytest.raises(RefocusError, match="nothing to refocus: a plane of a z-stack: --refocus-z"):
        run(source, target)
    assert [path.name for path in tmp_path.iterdir()] == [source.name]
    assert run(source, target, refocus_z=True).refocused == 2
    times = tmp_path / name.format("times")
    write_stack(times, kind, "tyx")
    assert run(times, tmp_path / name.format("done")).refocused == 2


def write_steps(path: Path, kind: str) -> None:
    """Write two channels of two planes that lie 2.5 µm apart, as each format says it."""
    stack = np.stack([PLANES, PLANES], 1)
    if kind == "ome":
        steps = {"axes": "ZCYX", "PhysicalSizeZ": 2500.0, "PhysicalSizeZUnit": "nm"}
        tifffile.imwrite(path, stack, ome=True, metadata=steps)
    elif kind == "imagej":
        steps = {"axes": "ZCYX", "spacing": 2.5, "unit": "um"}
        tifffile.imwrite(path, stack, imagej=True, metadata=steps)
    else:
        write_zarr(path, [stack.swapaxes(0, 1)], "czyx")
        document = path / ".zattrs"
        attributes = json.loads(document.read_text())
        (multiscale,) = attributes["multiscales"]
        multiscale["axes"][1]["unit"] = "nanometer"
        multiscale["datasets"][0]["coordinateTransformations"][0]["scale"][1] = 2500.0
        document.write_text(json.dumps(attributes))


@pytest.mark.parametrize(
    ("kind", "name", "table", "wanted"),
    [
        ("zarr", "{}.zarr", "out.zarr/tables/refocus/table.csv", [0.0, 2.5, 0.0, 2.5]),
        ("ome", "{}.ome.tif", "out.ome.tif.refocus.csv", [0.0, 0.0, 2.5, 2.5]),
        ("imagej", "{}.tif", "out.tif.refocus.csv", [0.0, 0.0, 2.5, 2.5]),
    ],
)
def test_the_steps_of_a_stack_are_in_the_table(
    tmp_path: Path, kind: str, name: str, table: str, wanted: list[float]
) -> None:
    write_steps(tmp_path / name.format("in"), kind)
    run(tmp_path / name.format("in"), tmp_path / name.format("out"), refocus_z=True)
    with open(tmp_path / table, newline="") as file:
        assert [float(line["z_um"]) for line in csv.DictReader(file)] == wanted


def test_the_command_has_the_options_of_a_run(tmp_path: Path, plate: Path) -> None:
    options = ["--engine", "fake", "--channel", "FITC=auto", "--region", "0,0,32,32"]
    done = CliRunner().invoke(app, ["process", str(plate), str(tmp_path / "out.zarr"), *options])
    assert done.exit_code == 0, done.output
    assert "6 planes left as captured: channel DAPI: --channel gives it no model" in done.output
    written = read_array(tmp_path / "out.zarr/A/1/0/0")
    assert (written != PLANES).sum((1, 2)).tolist() == [0, 32 * 32]
    bad = CliRunner().invoke(
        app, ["process", str(plate), str(tmp_path / "x.zarr"), "--channel", "FITC"]
    )
    assert "write NAME=MODEL" in str(bad.exception)


@pytest.mark.parametrize("how", [{}, {"chunks": (1, 16, 16)}])
@pytest.mark.parametrize("step", [2, 3])
def test_levels_of_a_plane_that_stays_as_captured_stay_so(
    tmp_path: Path, how: dict[str, Any], step: int
) -> None:
    source, target = tmp_path / "in.zarr", tmp_path / "out.zarr"
    levels = [PLANES, PLANES[:, ::step, ::step]]  # by another rule than ours
    write_zarr(source, levels, "cyx", **how)
    said = json.loads((source / ".zattrs").read_text())
    said["omero"] = {"channels": [{"label": "DAPI"}, {"label": "FITC"}]}
    (source / ".zattrs").write_text(json.dumps(said))
    assert run(source, target, channels={"DAPI": "auto"}).refocused == 1
    for name, level in zip("01", levels, strict=True):
        found = read_array(target / name)
        np.testing.assert_array_equal(found[1], level[1])
        assert (found[0] != level[0]).any()


def test_levels_of_a_colour_that_stays_as_captured_stay_so(tmp_path: Path) -> None:
    source, target = tmp_path / "in.tif", tmp_path / "out.tif"
    colours = np.stack([*PLANES, PLANES[0]], -1)
    about: dict[str, Any] = {"photometric": "rgb", "metadata": None}
    with tifffile.TiffWriter(source) as writer:
        writer.write(colours, subifds=1, **about)
        writer.write(colours[::2, ::2], subfiletype=1, **about)
    run(source, target, channels={"green": "auto"})
    with tifffile.TiffFile(target) as out:
        level = out.pages[0].aspage().pages[0].asarray()
    same = (level == colours[::2, ::2]).all((0, 1))
    assert same.tolist() == [True, False, True]
