"""A plate in, the same plate out: metadata, fields, channels and labels as they stand."""

import json
import logging
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorstore

from refocus.bench.plates import write_plate
from refocus.configs import RefocusError
from refocus.engine.fake import FakeEngine
from refocus.optics.ome_zarr import find_images
from refocus.recorded.plate import read_plate
from refocus.recorded.process import open_data_set, process
from refocus.recorded.verdict_table import read_verdicts
from refocus.recorded.work import Processed

CHANNELS = ("DAPI", "FITC")


def look(row: str, column: str, field: int) -> np.ndarray[Any, Any]:
    """Give two channels that tell which field they are of."""
    place = 100 * (ord(row) - ord("A")) + 10 * int(column) + field
    return np.stack([np.full((32, 48), 1000 * c + place, np.uint16) for c in range(2)])


def to_zarr_2(plate: Path) -> None:
    """Turn a plate of OME-Zarr 0.5 into one of 0.4, which lies in a Zarr of version 2."""
    for path in sorted(plate.rglob("zarr.json")):
        document = json.loads(path.read_text())
        if document["node_type"] == "array":
            pixels = read_array(path.parent)
            shutil.rmtree(path.parent)
            write_array(path.parent, pixels)
            continue
        stated = document.get("attributes", {}).get("ome", {})
        version = stated.pop("version", "0.4") and "0.4"
        for part in stated.values():
            for said in part if isinstance(part, list) else [part]:
                said["version"] = version
        path.with_name(".zgroup").write_text('{"zarr_format": 2}')
        path.with_name(".zattrs").write_text(json.dumps(stated))
        path.unlink()


def write_array(path: Path, pixels: np.ndarray[Any, Any]) -> None:
    spec = {"driver": "zarr", "kvstore": {"driver": "file", "path": str(path)}}
    metadata = {"shape": pixels.shape, "dtype": pixels.dtype.str, "chunks": (1, *pixels.shape[1:])}
    array = tensorstore.open({**spec, "metadata": metadata}, create=True).result()
    array.write(pixels).result()


def read_array(path: Path) -> np.ndarray[Any, Any]:
    driver = "zarr3" if (path / "zarr.json").exists() else "zarr"
    spec = {"driver": driver, "kvstore": {"driver": "file", "path": str(path)}}
    return np.asarray(tensorstore.open(spec).result().read().result())


@pytest.fixture(params=["0.4", "0.5"])
def plate(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """Give a plate of 2 × 3 wells, 2 fields of 2 channels, one of them with a label."""
    path = tmp_path / "plate.ome.zarr"
    write_plate(path, (2, 3), 2, look, CHANNELS)
    if request.param == "0.4":
        to_zarr_2(path)
    shutil.copytree(path / "A/1/0", path / "A/1/0/labels/nuclei")
    return path


def run(source: Path, target: Path) -> Processed:
    return process(source, target, FakeEngine(), lambda done: None)


def documents(plate: Path) -> dict[str, Any]:
    """Read all metadata of a plate but what is said of the refocusing."""
    found = {}
    for name in ("zarr.json", ".zattrs", ".zgroup", ".zarray"):
        for path in plate.rglob(name):
            document = json.loads(path.read_text())
            for said in (document, document.get("attributes", {})):
                said.pop("refocus", None)
            found[str(path.relative_to(plate))] = document
    return found


def test_the_same_plate_comes_out(tmp_path: Path, plate: Path) -> None:
    target = tmp_path / "out.ome.zarr"
    assert len(open_data_set(plate).planes) == 24
    assert run(plate, target).refocused == 24
    made, given = documents(target), documents(plate)
    assert {name: made.get(name) for name in given} == given
    assert read_plate(target, {}) is not None
    for field in (f"{row}/{column}/{f}" for row in "AB" for column in "123" for f in "01"):
        raw = read_array(plate / field / "0")
        np.testing.assert_array_equal(read_array(target / field / "0"), np.invert(raw))
    label = "A/1/0/labels/nuclei/0"
    np.testing.assert_array_equal(read_array(target / label), read_array(plate / label))


def test_metadata_are_parsed_once_where_fields_say_the_same(
    plate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from refocus.optics import ome_zarr

    ome_zarr._multiscale.cache_clear()
    opened = []
    monkeypatch.setattr(
        "refocus.recorded.zarr.open_array",
        lambda image, level, **how: opened.append(level) or ome_zarr.open_array(image, level),
    )
    assert len(open_data_set(plate).planes) == 24
    assert ome_zarr._multiscale.cache_info().misses == 1
    assert len(opened) == 1


def test_missing_wells_are_said_in_a_line_and_the_rest_is_done(
    tmp_path: Path, plate: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.rmtree(plate / "A/2")
    shutil.rmtree(plate / "B/3")
    shutil.rmtree(plate / "B/1/1")
    with caplog.at_level(logging.WARNING, "refocus"):
        assert run(plate, tmp_path / "out.ome.zarr").refocused == 14
    (line,) = [record.getMessage() for record in caplog.records]
    assert line == (
        f"{plate}: 2 of 6 wells are missing (A2, B3), and 1 of 8 fields are missing (B1/1); "
        "the rest is done"
    )


def document_of(group: Path) -> Path:
    return next(p for p in (group / name for name in ("zarr.json", ".zattrs")) if p.exists())


def no_array(field: Path) -> None:
    shutil.rmtree(field / "0")


def no_multiscales(field: Path) -> None:
    document_of(field).write_text('{"zarr_format": 3, "node_type": "group"}')


def no_metadata(field: Path) -> None:
    document_of(field).unlink()


@pytest.mark.parametrize("unfinished", [no_array, no_multiscales, no_metadata, shutil.rmtree])
def test_a_field_that_was_only_begun_is_a_missing_one(
    tmp_path: Path, plate: Path, unfinished: Callable[[Path], None], caplog: Any
) -> None:
    unfinished(plate / "A/2/1")
    with caplog.at_level(logging.WARNING, "refocus"):
        assert run(plate, tmp_path / "out.ome.zarr").refocused == 22
    (line,) = [record.getMessage() for record in caplog.records]
    assert line == f"{plate}: 1 of 12 fields are missing (A2/1); the rest is done"
    shutil.rmtree(plate / "A")
    shutil.rmtree(plate / "B/1")
    for field in ("B/2/0", "B/2/1", "B/3/0", "B/3/1"):
        unfinished(plate / field)
    with pytest.raises(RefocusError, match=r"plate\.ome\.zarr: holds no"):
        open_data_set(plate)


def of_floats(field: Path) -> None:
    pixels = read_array(field / "0").astype(np.float32)
    shutil.rmtree(field / "0")
    write_array(field / "0", pixels)


def empty_document(group: Path) -> None:
    document_of(group).write_text("")


def broken_document(group: Path) -> None:
    path = document_of(group)
    said = path.read_text().replace('"path": "0"', '"path": "../0"')
    path.write_text(said.replace('"path":"0"', '"path":"../0"'))


@pytest.mark.parametrize(
    ("place", "damage", "refocused"),
    [
        ("A/2/1", of_floats, 22),
        ("A/2/1", empty_document, 22),
        ("A/2/1", broken_document, 22),
        ("A/2", empty_document, 20),
        ("A/2", broken_document, 24),  # its fields are whole
    ],
)
def test_a_field_that_is_broken_is_left_out_if_so_told(
    tmp_path: Path, plate: Path, place: str, damage: Callable[[Path], None], refocused: int
) -> None:
    target = tmp_path / "out.ome.zarr"
    damage(plate / place)
    with pytest.raises(RefocusError) as caught:
        run(plate, target)
    assert place in str(caught.value)
    assert not re.search("\n|tensorstore_spec", str(caught.value))
    assert not list(tmp_path.glob("*out*"))
    done = process(plate, target, FakeEngine(), lambda done: None, keep_going=True)
    assert (done.refocused, done.failed) == (refocused, 1)
    lines = list(read_verdicts(target / "tables/refocus/table.csv"))
    assert [line["image"] for line in lines if line["left_out"]] == [place]
    if damage is of_floats:
        assert not read_array(target / place / "0").any()


def test_not_all_of_many_missing_wells_are_named(plate: Path) -> None:
    for well in ("A/1", "A/2", "A/3", "B/1", "B/2"):
        shutil.rmtree(plate / well)
    found = read_plate(plate, {})
    assert found is not None
    there = {image.group for image in find_images(plate)}
    assert found.lacking(there) == "5 of 6 wells are missing (A1, A2, A3, B1 and 1 more)"


@pytest.mark.parametrize(
    ("group", "key", "broken", "said"),
    [
        ("", "plate", {"rows": []}, "plate.rows"),
        ("", "plate", {"wells": [{"path": "A/1", "rowIndex": 9, "columnIndex": 0}]}, "plate"),
        ("A/1", "well", {"images": None}, "well.images"),
        ("A/1", "well", {"images": [{"path": "../../../elsewhere"}]}, "well.images"),
    ],
)
def test_broken_metadata_are_told_in_a_line(  # noqa: PLR0917
    tmp_path: Path, plate: Path, group: str, key: str, broken: Any, said: str
) -> None:
    path = next(p for p in (plate / group / n for n in ("zarr.json", ".zattrs")) if p.exists())
    document = json.loads(path.read_text())
    stated = document["attributes"]["ome"] if path.name == "zarr.json" else document
    stated[key] |= broken
    path.write_text(json.dumps(document))
    with pytest.raises(RefocusError, match=said) as caught:
        run(plate, tmp_path / "out.ome.zarr")
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out.ome.zarr").exists()
