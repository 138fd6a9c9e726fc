"""The table of verdicts: a line for each plane, where the ecosystem looks for it."""

import csv
import json
import logging
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from refocus.bench.plates import PIXEL_UM, write_plate
from refocus.configs.light_path import KnownOptics
from refocus.engine.fake import FakeEngine
from refocus.engine.trust.judgement import UNRATED
from refocus.recorded.process import process
from refocus.recorded.refocusing import Options
from refocus.recorded.verdict_table import COLUMNS, read_verdicts

from .test_plate import to_zarr_2
from .test_what_is_kept import write_ome

Lines = list[dict[str, str]]
OPTICS = KnownOptics.model_validate(
    {"na": 0.5, "immersion": "air", "channels": {"FITC": {"emission_um": 0.53}}}
)


def run(source: Path, target: Path, **engine: Any) -> None:
    told = Options(optics=OPTICS)
    process(source, target, FakeEngine(**engine), lambda done: None, told, keep_going=True)


def read(path: Path) -> Lines:
    """Read it in three lines, without anything of ours."""
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture(params=["0.4", "0.5"])
def plate(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    path = tmp_path / "plate.ome.zarr"
    planes = np.zeros((2, 32, 32), np.uint16)
    write_plate(path, (2, 3), 2, lambda *place: planes, ("DAPI", "FITC"))
    if request.param == "0.4":
        to_zarr_2(path)
    return path


def test_a_plate_carries_a_line_for_each_plane(tmp_path: Path, plate: Path) -> None:
    from dataclasses import replace

    judged = replace(UNRATED, verdict="refocused", distance_um=4.5)
    run(plate, tmp_path / "out.zarr", judgement=judged, fail_on=frozenset({3}))
    path = tmp_path / "out.zarr/tables/refocus/table.csv"
    lines = read(path)
    assert lines == list(read_verdicts(path))
    assert [line["index"] for line in lines] == [str(n) for n in range(24)]
    assert tuple(lines[0]) == COLUMNS
    second = {**lines[1]}
    assert {k: second[k] for k in ("row", "column", "field", "image", "plane", "t", "c", "z")} == {
        **{"row": "A", "column": "1", "field": "0", "image": "A/1/0"},
        **{"plane": "1", "t": "", "c": "1", "z": ""},
    }
    assert (second["channel"], second["verdict"], second["distance_um"]) == (
        *("FITC", "refocused", "4.5"),
    )
    optics = [second[k] for k in ("pixel_size_um", "na", "immersion_index", "emission_um")]
    assert [float(value) for value in optics] == [PIXEL_UM, 0.5, 1.0, 0.53]
    assert second["engine"] == "fake"
    assert lines[3]["left_out"] == "fake engine: told to fail on call 3"
    assert lines[3]["verdict"] == ""


def attributes(group: Path) -> dict[str, Any]:
    if (group / "zarr.json").exists():
        document = json.loads((group / "zarr.json").read_text())
        assert (document["zarr_format"], document["node_type"]) == (3, "group")
        found: dict[str, Any] = document["attributes"]
        return found
    assert json.loads((group / ".zgroup").read_text()) == {"zarr_format": 2}
    attributes: dict[str, Any] = json.loads((group / ".zattrs").read_text())
    return attributes


def test_it_is_a_table_as_ngio_reads_it_beside_those_that_there_are(
    tmp_path: Path, plate: Path
) -> None:
    (plate / "tables/mine").mkdir(parents=True)
    (plate / "tables/mine/table.csv").write_text("index,a\n0,1\n")
    if (plate / "zarr.json").exists():
        said = {"zarr_format": 3, "node_type": "group", "attributes": {"tables": ["mine"]}}
        (plate / "tables/zarr.json").write_text(json.dumps(said))
    else:
        (plate / "tables/.zgroup").write_text('{"zarr_format": 2}')
        (plate / "tables/.zattrs").write_text('{"tables": ["mine"]}')
    run(plate, tmp_path / "out.zarr")
    run(tmp_path / "out.zarr", tmp_path / "again.zarr")
    for name in ("out.zarr", "again.zarr"):
        assert attributes(tmp_path / name / "tables") == {"tables": ["mine", "refocus"]}
        assert (tmp_path / name / "tables/mine/table.csv").read_text() == "index,a\n0,1\n"
        assert attributes(tmp_path / name / "tables/refocus") == {
            "type": "generic_table",
            "table_version": "1",
            "backend": "csv",
            "index_key": "index",
            "index_type": "int",
        }


def test_it_and_what_fields_say_are_among_metadata_that_lie_in_one_place(
    tmp_path: Path, plate: Path
) -> None:
    modern = (plate / "zarr.json").exists()
    if modern:
        document = json.loads((plate / "zarr.json").read_text())
        document["consolidated_metadata"] = {"kind": "inline", "metadata": {}}
        (plate / "zarr.json").write_text(json.dumps(document))
    else:
        (plate / ".zmetadata").write_text('{"metadata": {}, "zarr_consolidated_format": 1}')
    run(plate, tmp_path / "out.zarr")
    out = tmp_path / "out.zarr"
    if modern:
        document = json.loads((out / "zarr.json").read_text())["consolidated_metadata"]
        for group in ("tables", "tables/refocus", "A/1/0"):
            assert document["metadata"][group] == json.loads(
                (out / group / "zarr.json").read_text()
            )
    else:
        listed = json.loads((out / ".zmetadata").read_text())["metadata"]
        for group in ("tables", "tables/refocus", "A/1/0", "."):
            file = (Path(group) / ".zattrs").as_posix()
            assert listed[file] == json.loads((out / file).read_text())
        assert listed["tables/refocus/.zgroup"] == {"zarr_format": 2}
    assert attributes(out / "A/1/0")["refocus"]["planes"]


@pytest.mark.parametrize("plate", ["0.4"], indirect=True)
@pytest.mark.parametrize("in_one_place", [True, False])
def test_a_field_says_it_where_its_own_metadata_lie_in_one_place(
    in_one_place: bool, tmp_path: Path, plate: Path
) -> None:
    field = plate / "A/1/0"
    said = {**json.loads((field / ".zattrs").read_text()), "mine": "\ud83d"}  # half of a pair
    (field / ".zattrs").write_text(json.dumps(said))
    listed = {".zattrs": said, "0/.zarray": json.loads((field / "0/.zarray").read_text())}
    if in_one_place:
        merged = {"metadata": listed, "zarr_consolidated_format": 1}
        (field / ".zmetadata").write_text(json.dumps(merged))
    run(plate, tmp_path / "out.zarr")
    made = tmp_path / "out.zarr/A/1/0"
    now = attributes(made)
    assert now == {**said, "refocus": now["refocus"]}
    assert now["refocus"]["planes"]
    assert (made / ".zmetadata").exists() == in_one_place
    if in_one_place:
        merged = json.loads((made / ".zmetadata").read_text())
        assert merged == {"metadata": {**listed, ".zattrs": now}, "zarr_consolidated_format": 1}


def test_single_images_have_one_too(tmp_path: Path, plate: Path) -> None:
    planes = np.zeros((2, 32, 48), np.uint16)
    tifffile.imwrite(tmp_path / "in.tif", planes, photometric="minisblack", metadata=None)
    Image.fromarray(planes[0]).save(tmp_path / "in.png")
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("in.tif", "in.png"):
        shutil.copy(tmp_path / name, folder / name)
    tables = {
        (plate / "A/1/0", "out.zarr"): "out.zarr/tables/refocus/table.csv",
        (tmp_path / "in.tif", "out.tif"): "out.tif.refocus.csv",
        (tmp_path / "in.png", "out.png"): "out.png.refocus.csv",
        (folder, "out"): "out/refocus.csv",
    }
    found = {}
    for (source, target), table in tables.items():
        process(source, tmp_path / target, FakeEngine(), lambda done: None)
        found[target] = [(line["image"], line["plane"]) for line in read(tmp_path / table)]
    assert found == {
        "out.zarr": [(".", "0"), (".", "1")],
        "out.tif": [("in.tif", "0"), ("in.tif", "1")],
        "out.png": [("in.png", "in.png")],
        "out": [("in.png", "in.png"), ("in.tif", "0"), ("in.tif", "1")],
    }


NAMES = ["DA\rPI", "DA\nPI", 'D,"A"', "=1+1", "D\r\n", " DAPI", "µ", ""]


@pytest.mark.parametrize("plate", ["0.4"], indirect=True)
@pytest.mark.parametrize("name", NAMES)
def test_names_come_back_as_they_were(tmp_path: Path, plate: Path, name: str) -> None:
    for path in plate.rglob(".zattrs"):
        said = json.loads(path.read_text())
        if "omero" in said:
            said["omero"]["channels"][0]["label"] = name
            path.write_text(json.dumps(said))
    run(plate, tmp_path / "out.zarr")
    table = tmp_path / "out.zarr/tables/refocus/table.csv"
    assert [line["channel"] for line in read(table)] == [name, "FITC"] * 12
    assert b"left_out\n0," in table.read_bytes()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere names are text")
@pytest.mark.parametrize("kind", ["a folder", "a file", "a channel", "an OME-TIFF"])
def test_a_name_that_is_no_utf_8_is_escaped(
    tmp_path: Path, plate: Path, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)  # a report that holds such a name ends pytest -n 2
    name = os.fsdecode(b"\xb5m.tif")
    source, target = tmp_path / name, tmp_path / "out.tif"
    if kind == "a channel":
        source, target = plate, tmp_path / "out.zarr"
        for path in plate.rglob("*"):
            if path.name in {"zarr.json", ".zattrs"} and '"DAPI"' in path.read_text():
                path.write_text(path.read_text().replace('"DAPI"', '"\\udcb5m.tif"'))
    elif kind == "an OME-TIFF":
        source, target = write_ome(tmp_path / "in.tif", '"in.tif"'), tmp_path / name
    else:
        tifffile.imwrite(source, np.zeros((32, 32), np.uint16), metadata=None)
    if kind == "a folder":
        (tmp_path / "in").mkdir()
        source.rename(tmp_path / "in" / name)
        source, target = tmp_path / "in", tmp_path / "out"
    process(source, target, FakeEngine(), lambda done: None)
    table = {"a folder": target / "refocus.csv", "a channel": target / "tables/refocus/table.csv"}
    beside = target.with_name(target.name + ".refocus.csv")
    read(table.get(kind, beside))
    if kind != "an OME-TIFF":
        assert "\\udcb5m.tif" in table.get(kind, beside).read_text()
    if kind in {"a folder", "a file"}:
        record = target / "refocus.json" if kind == "a folder" else beside.with_suffix(".json")
        said = json.loads(record.read_text())
        assert (said[0] if kind == "a folder" else said)["source"] == name
