"""What cannot be refocused: one line, and nothing that looks whole."""

import json
import re
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from typer.testing import CliRunner

from refocus.acquisition.command.cli import app
from refocus.configs import RefocusError
from refocus.engine.fake import FakeEngine
from refocus.recorded.process import process

from .test_what_is_kept import write_zarr

COMMAND = "import refocus.acquisition.command.cli as c, sys; sys.exit(c.main())"
PLANES = np.random.default_rng(5).integers(0, 1 << 12, (3, 64, 96)).astype(np.uint16)


def lacks_a_level(folder: Path) -> Path:
    write_zarr(folder / "in.zarr", [PLANES, PLANES[:, ::2, ::2]], "tyx")
    shutil.rmtree(folder / "in.zarr" / "1")
    return folder / "in.zarr"


def damaged_chunk(folder: Path) -> Path:
    write_zarr(folder / "in.zarr", [PLANES], "tyx")
    (chunk, *_) = sorted(
        p for p in (folder / "in.zarr" / "0").rglob("*") if p.name.isdecimal() and p.is_file()
    )
    chunk.write_bytes(b"\xff" * 50)
    return folder / "in.zarr"


def damaged_tile(folder: Path) -> Path:
    path = folder / "in.tif"
    tifffile.imwrite(path, PLANES[0], tile=(32, 32), compression="zlib", metadata=None)
    with tifffile.TiffFile(path) as tiff:
        at = tiff.pages[0].aspage().dataoffsets[3]
    content = bytearray(path.read_bytes())
    content[at : at + 20] = b"\xff" * 20
    path.write_bytes(content)
    return path


def axes_y_x_z(folder: Path) -> Path:
    path = folder / "in.tif"
    tifffile.imwrite(
        path,
        np.moveaxis(PLANES.repeat(20, 0), 0, -1),
        metadata={"axes": "YXZ"},
        photometric="minisblack",
    )
    return path


def order_of_planes(order: str) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        path = folder / "in.tif"
        tifffile.imwrite(path, PLANES, ome=True, metadata={"axes": "CYX"}, photometric="minisblack")
        content = path.read_bytes()
        (stated,) = re.findall(rb'DimensionOrder="(.*?)"', content)
        path.write_bytes(content.replace(stated, order.encode()))
        return path

    return write


def colours(folder: Path) -> Path:
    path = folder / "in.tif"
    tifffile.imwrite(path, np.zeros((64, 96, 3), np.uint8), photometric="rgb")
    return path


def one_strip_of_gigabytes(folder: Path) -> Path:
    path = folder / "in.tif"
    tifffile.imwrite(path, PLANES[0], compression="zlib", rowsperstrip=64, metadata=None)
    with tifffile.TiffFile(path, mode="r+") as tiff:
        for name in ("ImageWidth", "ImageLength", "RowsPerStrip"):
            tag = tiff.pages[0].aspage().tags[name]
            tiff.filehandle.seek(tag.offset + 2)
            tiff.filehandle.write(b"\x04\x00\x01\x00\x00\x00" + (40_000).to_bytes(4, "little"))
    return path


BAD: dict[str, tuple[Callable[[Path], Path], str]] = {
    "a level is missing": (lacks_a_level, "in.zarr/1: not a readable Zarr array"),
    "a chunk does not decompress": (damaged_chunk, "in.zarr/0, plane (0,): not readable"),
    "a tile does not decompress": (damaged_tile, "in.tif, page 0, tile 3: not readable"),
    "axes y, x, z": (axes_y_x_z, "its axes are y, x, z"),
    "an axis twice": (order_of_planes("XYCTT"), "states 'XYCTT' as the order of its planes"),
    "axes that are no planes": (order_of_planes("ZCXYT"), "states 'ZCXYT' as the order"),
    "axes that are none": (order_of_planes("XYQQQ"), "states 'XYQQQ' as the order of its planes"),
    "colours": (colours, "--channel red=auto"),
    "one strip of gigabytes": (one_strip_of_gigabytes, "one piece asks for 3.2 GB at once"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_refocused_is_told_in_a_line(tmp_path: Path, case: str) -> None:
    write, said = BAD[case]
    source = write(tmp_path)
    before = {p.name for p in tmp_path.iterdir()}
    with pytest.raises(RefocusError) as caught:
        process(source, tmp_path / f"out{source.suffix}", FakeEngine(), lambda done: None)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / f"out{source.suffix}").exists()
    assert {p.name for p in tmp_path.iterdir()} - {f".out{source.suffix}.unfinished"} == before


@pytest.mark.parametrize("name", ["in.tif", "link.tif"])
def test_the_place_of_the_input_is_none_for_the_output(tmp_path: Path, name: str) -> None:
    tifffile.imwrite(tmp_path / "in.tif", PLANES[0])
    if name == "link.tif":
        (tmp_path / name).symlink_to(tmp_path / "in.tif")
    before = (tmp_path / "in.tif").read_bytes()
    with pytest.raises(RefocusError, match="exists already"):
        process(tmp_path / "in.tif", tmp_path / name, FakeEngine(), lambda done: None)
    assert (tmp_path / "in.tif").read_bytes() == before


@pytest.mark.parametrize("name", [".", "/", "..", "./"])
@pytest.mark.parametrize("workers", [1, 2])
def test_a_target_that_has_no_name_is_refused(tmp_path: Path, name: str, workers: int) -> None:
    tifffile.imwrite(tmp_path / "in.tif", PLANES[0])
    command = ["process", str(tmp_path / "in.tif"), name, "--engine", "fake"]
    ended = CliRunner().invoke(app, [*command, "--workers", str(workers)])
    assert isinstance(ended.exception, RefocusError)
    assert re.search("is no name for a result|exists already", str(ended.exception))


def test_two_images_in_one_file_are_two(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "in.ome.tif", ome=True) as writer:
        writer.write(PLANES, photometric="minisblack", metadata={"axes": "TYX"})
        writer.write(PLANES[0, :40, :50], photometric="minisblack", metadata={"axes": "YX"})
    done = process(tmp_path / "in.ome.tif", tmp_path / "out.ome.tif", FakeEngine(), lambda d: None)
    assert done.refocused == 4
    with tifffile.TiffFile(tmp_path / "out.ome.tif") as out:
        np.testing.assert_array_equal(out.series[0].asarray(), np.invert(PLANES))
        np.testing.assert_array_equal(out.series[1].asarray(), np.invert(PLANES[0, :40, :50]))


@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_colours_that_are_named_are_refocused_and_the_others_stay(
    tmp_path: Path, planar: Any
) -> None:
    from refocus.recorded.refocusing import Options
    from refocus.recorded.selection import Selection

    pixels = PLANES if planar == "separate" else np.ascontiguousarray(np.moveaxis(PLANES, 0, -1))
    options: dict[str, Any] = {"photometric": "rgb", "planarconfig": planar, "metadata": None}
    tifffile.imwrite(tmp_path / "in.tif", pixels, tile=(32, 48), **options)
    done = process(
        tmp_path / "in.tif",
        tmp_path / "out.tif",
        FakeEngine(),
        lambda done: None,
        Options(selection=Selection({"green": "auto", "blue": "auto"})),
    )
    assert done.refocused == 2
    wanted = np.stack([PLANES[0], np.invert(PLANES[1]), np.invert(PLANES[2])])
    found = tifffile.imread(tmp_path / "out.tif")
    np.testing.assert_array_equal(
        found if planar == "separate" else np.moveaxis(found, -1, 0), wanted
    )
    record = json.loads((tmp_path / "out.tif.refocus.json").read_text())
    assert [plane["plane"] for plane in record["planes"]] == ["0 red", "0 green", "0 blue"]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such limit")
@pytest.mark.parametrize("name", ["in.tif", "in.zarr"])
def test_a_full_disk_is_told_in_a_line_and_the_same_command_goes_on(
    tmp_path: Path, name: str
) -> None:
    source, target = tmp_path / name, tmp_path / name.replace("in", "out")
    if name == "in.tif":
        tifffile.imwrite(source, PLANES.repeat(8, 0), photometric="minisblack", metadata=None)
    else:
        write_zarr(source, [PLANES.repeat(8, 0)], "tyx")
    command = [sys.executable, "-c", COMMAND, "process", str(source), str(target)]
    command += ["--engine", "fake"]

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))

    failed = subprocess.run(command, preexec_fn=limit, capture_output=True, text=True, check=False)
    assert failed.returncode == 2, failed.stderr
    assert "the same command goes on" in failed.stderr
    assert "Traceback" not in failed.stderr
    assert not target.exists()
    again = subprocess.run(command, capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
