"""Slides of scanners, read by the real OpenSlide, become OME-Zarr."""

import ctypes
import json
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorstore
import tifffile

from refocus.configs import RefocusError
from refocus.engine.fake import FakeEngine
from refocus.recorded import process as process_module
from refocus.recorded.process import open_data_set, process
from refocus.recorded.refocusing import Options
from refocus.recorded.selection import Selection
from refocus.recorded.slide import Slide, background
from refocus.recorded.staff import crew_of

from .svs import MPP, colours, write_svs

openslide = pytest.importorskip("openslide", reason="needs the extra [openslide]")

RED = Options(selection=Selection(channels={"red": "auto"}))


def level(target: Path, number: int) -> np.ndarray[Any, Any]:
    kvstore = {"driver": "file", "path": str(target / str(number))}
    array = tensorstore.open({"driver": "zarr3", "kvstore": kvstore}).result()
    return np.asarray(array.read().result())


def attributes(target: Path) -> Any:
    return json.loads((target / "zarr.json").read_text())["attributes"]


def test_a_slide_becomes_an_ome_zarr(tmp_path: Path) -> None:
    source, target = write_svs(tmp_path / "slide.svs"), tmp_path / "out.ome.zarr"
    before = source.read_bytes()
    done = process(source, target, FakeEngine(), lambda d: None, RED)
    assert (done.refocused, sum(done.as_captured.values())) == (1, 2)
    assert source.read_bytes() == before
    full = np.moveaxis(colours(700, 900), -1, 0)
    written = level(target, 0)
    np.testing.assert_array_equal(written[1:], full[1:])  # as captured
    np.testing.assert_array_equal(written[0], FakeEngine().refocus(full[0]))
    means = full.reshape(3, 175, 4, 225, 4).mean((2, 4))
    np.testing.assert_array_equal(level(target, 1)[1:], np.rint(means[1:]))
    said = attributes(target)
    assert [c["label"] for c in said["ome"]["omero"]["channels"]] == ["red", "green", "blue"]
    assert said["refocus"]["scanner"] == {"vendor": "aperio", "objective_power": 20}
    assert [plane.get("as_captured", "") != "" for plane in said["refocus"]["planes"]] == [
        *(False, True, True)
    ]


def test_the_result_is_read_again_with_its_optics(tmp_path: Path) -> None:
    source, target = write_svs(tmp_path / "slide.svs"), tmp_path / "out.ome.zarr"
    process(source, target, FakeEngine(), lambda d: None, RED)
    again = open_data_set(target, ("red",))
    assert [plane.about.channel for plane in again.planes] == ["red", "green", "blue"]
    for plane in (*open_data_set(source, ("red",)).planes, *again.planes):
        assert plane.about.light_path.pixel_size_um == MPP
    levels = attributes(target)["ome"]["multiscales"][0]["datasets"]
    scales = [level["coordinateTransformations"][0]["scale"] for level in levels]
    assert scales == [[1.0, MPP, MPP], [1.0, 4 * MPP, 4 * MPP]]


def test_a_size_that_is_not_known_is_none(tmp_path: Path) -> None:
    source = write_svs(tmp_path / "slide.svs", mpp=0)
    target = tmp_path / "out.ome.zarr"
    process(source, target, FakeEngine(), lambda d: None, RED)
    assert open_data_set(source, ("red",)).planes[0].about.light_path.pixel_size_um == 0.0
    assert open_data_set(target).planes[0].about.light_path.pixel_size_um == 0.0


@pytest.mark.parametrize("workers", [1, 2])
def test_a_slide_in_regions_is_that_of_one_pass(workers: int, tmp_path: Path) -> None:
    source, target = write_svs(tmp_path / "s.svs", 2300, 2900), tmp_path / "out.ome.zarr"
    crew = crew_of(source, target, "fake", FakeEngine().info, RED, workers)
    done = process(source, target, FakeEngine(), lambda d: None, RED, crew=crew)
    assert done.regions == 12
    full = colours(2300, 2900)[..., 0]
    np.testing.assert_array_equal(level(target, 0)[0], FakeEngine().refocus(full))


def test_where_the_scanner_has_not_been_is_background(tmp_path: Path) -> None:
    slide = Slide(write_svs(tmp_path / "slide.svs"), ("red",))
    beyond = slide.planes[0].read(slice(690, 710), slice(890, 905))
    np.testing.assert_array_equal(beyond[:10, :10], colours(700, 900)[690:, 890:, 0])
    assert (beyond[10:] == 255).all()
    assert (beyond[:, 10:] == 255).all()


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("0A0B0C", [10, 11, 12]),
        *((said, [255, 255, 255]) for said in ("", "white", "0A0B", "FF0A0B0C")),
    ],
)
def test_a_background_that_is_no_colour_is_white(said: str, expected: list[int]) -> None:
    assert background(said).tolist() == expected


def damaged(path: Path) -> Path:
    write_svs(path)
    with tifffile.TiffFile(path) as tiff:
        page = tiff.pages[0].aspage()
        at, count = page.dataoffsets[3], page.databytecounts[3]
    content = bytearray(path.read_bytes())
    content[at : at + count] = b"\xff" * count
    path.write_bytes(content)
    return path


def no_slide(path: Path) -> Path:
    path.write_bytes(b"no slide")
    return path


BAD: dict[str, tuple[Any, str, Options, str]] = {
    "no colour is chosen": (write_svs, "out.ome.zarr", Options(), "--channel red=auto"),
    "no slide": (no_slide, "out.ome.zarr", RED, "in.svs: not a slide that OpenSlide reads"),
    "a tile is damaged": (damaged, "out.ome.zarr", RED, "in.svs, rows 0 to 700: not readable"),
    "a TIFF is asked for": (write_svs, "out.tif", RED, "will be an OME-Zarr; give it a name in"),
    "a folder is asked for": (
        write_svs,
        "out",
        RED,
        "will be an OME-Zarr; give it a name in .zarr",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_done_is_told_in_a_line(tmp_path: Path, case: str) -> None:
    write, target, options, said = BAD[case]
    source = write(tmp_path / "in.svs")
    with pytest.raises(RefocusError) as caught:
        process(source, tmp_path / target, FakeEngine(), lambda d: None, options)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / target).exists()


@pytest.mark.parametrize("case", ["all is well", *(case for case in BAD if case != "no slide")])
def test_a_slide_is_closed_however_it_ends(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed: list[Any] = []
    close = openslide.OpenSlide.close
    monkeypatch.setattr(
        openslide.OpenSlide, "close", lambda slide: (close(slide), closed.append(slide))
    )
    write, target, options, _ = BAD.get(case, (write_svs, "out.ome.zarr", RED, ""))
    source = write(tmp_path / "in.svs")
    with suppress(RefocusError):
        process(source, tmp_path / target, FakeEngine(), lambda d: None, options)
    (slide,) = closed
    with pytest.raises(ctypes.ArgumentError, match="closed"):
        slide.read_region((0, 0), 0, (1, 1))


@pytest.mark.parametrize("ending", Slide.endings)
def test_without_the_extra_a_line_says_how_to_get_it(
    ending: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "openslide", None)
    with pytest.raises(RefocusError, match=r"install the extra: .*\[openslide\]"):
        process_module.open_data_set(no_slide(tmp_path / f"in{ending.upper()}"), ("red",))
