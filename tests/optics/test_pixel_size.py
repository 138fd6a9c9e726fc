"""Pixel size, channel and bit depth of a plane, from whatever a file states."""

import json
from math import inf, nan
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from refocus.configs import RefocusError
from refocus.optics.images import LARGEST_PIXELS, check_size, list_images, read_image
from refocus.optics.ome_zarr import channel_name, find_images, one_size, pixel_size_um
from refocus.optics.tiff_metadata import TiffNotes

PLANE = np.zeros((32, 48), np.uint16)


def zarr(path: Path, unit: str | None, scale: float, version: str, more: float = 1.0) -> None:
    side = {"type": "space"} | ({"unit": unit} if unit else {})
    axes = [{"name": "c", "type": "channel"}, *({"name": n, **side} for n in "yx")]
    change = [{"type": "scale", "scale": [1.0, scale, scale]}]
    multiscale: dict[str, Any] = {"axes": axes, "unheard_of": 1}
    multiscale["datasets"] = [{"path": "0", "coordinateTransformations": change}]
    if more != 1.0:
        multiscale["coordinateTransformations"] = [{"type": "scale", "scale": [1.0, more, more]}]
    omero = {"channels": [{"label": "DAPI"}, {"label": "FITC", "color": "no colour"}]}
    path.mkdir()
    if version == "0.4":
        multiscale["version"] = version
        (path / ".zattrs").write_text(json.dumps({"multiscales": [multiscale], "omero": omero}))
        return
    ome = {"version": version, "multiscales": [multiscale], "omero": omero}
    group = {"zarr_format": 3, "node_type": "group", "attributes": {"ome": ome}}
    (path / "zarr.json").write_text(json.dumps(group))


@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize(
    ("unit", "scale", "more", "expected"),
    [
        ("micrometer", 0.325, 1.0, 0.325),
        ("micrometer", 0.325, 2.0, 0.65),
        ("nanometer", 650.0, 1.0, 0.65),
        ("µm", 0.65, 1.0, 0.65),
        (None, 0.65, 1.0, 0.0),
        ("pixel", 1.0, 1.0, 0.0),
        ("micrometer", 1.0, 1.0, 0.0),
    ],
)
def test_ome_zarr(  # noqa: PLR0917
    tmp_path: Path, version: str, unit: str | None, scale: float, more: float, expected: float
) -> None:
    zarr(tmp_path / "a.zarr", unit, scale, version, more)
    (image,) = find_images(tmp_path / "a.zarr")
    assert pixel_size_um(image) == pytest.approx(expected)
    assert [channel_name(image, (n,)) for n in range(3)] == ["DAPI", "FITC", ""]


@pytest.mark.parametrize(
    ("noted", "expected"),
    [([1.0], 1.0), ([1.0, 1.0], 1.0), ([0.0], 0.0), ([0.5, 0.5, 1.0], 0.0), (["?"], 0.0), (7, 0.0)],
)
def test_one_micrometre_is_that_of_the_cameras_where_they_are_noted(
    tmp_path: Path, noted: Any, expected: float
) -> None:
    zarr(tmp_path / "a.zarr", "micrometer", 1.0, "0.5")
    document = json.loads((tmp_path / "a.zarr" / "zarr.json").read_text())
    cameras = [{"pixel_size_um": um} for um in noted] if isinstance(noted, list) else noted
    document["attributes"]["pymmcore_plus"] = {"summary_metadata": {"image_infos": cameras}}
    (tmp_path / "a.zarr" / "zarr.json").write_text(json.dumps(document))
    (image,) = find_images(tmp_path / "a.zarr")
    assert pixel_size_um(image) == expected


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ([0.5, 0.504], 0.5),
        ([0.5, 0.6], 0.0),
        ([0.5, 0.0], 0.0),
        ([0.5, nan], 0.0),
        ([nan, 0.5], 0.0),
        ([0.5, inf], 0.0),
        ([inf, inf], 0.0),
    ],
)
def test_a_size_is_known_of_square_pixels_only(sizes: list[float], expected: float) -> None:
    assert one_size(sizes) == expected


def told(path: Path, **options: Any) -> tuple[float, str, int | None]:
    tifffile.imwrite(path, PLANE, **options)
    with tifffile.TiffFile(path) as opened:
        notes = TiffNotes(opened)
        return notes.pixel_size_um(), notes.channel_name(), notes.bit_depth()


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"imagej": True, "resolution": (1 / 0.65,) * 2, "metadata": {"unit": "um"}}, 0.65),
        ({"imagej": True, "resolution": (1 / 0.65,) * 2, "metadata": {"unit": "micron"}}, 0.65),
        ({"imagej": True, "resolution": (2, 2), "metadata": {"unit": "pixel"}}, 0.0),
        ({"imagej": True}, 0.0),
        ({"resolution": (1e4 / 0.65,) * 2, "resolutionunit": "CENTIMETER"}, 0.65),
        ({"resolution": (118, 118), "resolutionunit": "CENTIMETER"}, 0.0),
        ({"resolution": (300, 300), "resolutionunit": "INCH"}, 0.0),
        ({}, 0.0),
    ],
)
def test_tiff_without_ome(tmp_path: Path, options: dict[str, Any], expected: float) -> None:
    size_um, *others = told(tmp_path / "a.tif", **options)
    assert size_um == pytest.approx(expected, rel=1e-3)
    assert others == ["", None]


@pytest.mark.parametrize(("unit", "factor"), [("µm", 1.0), ("nm", 1e-3), ("mm", 1e3)])
@pytest.mark.parametrize("axes", ["TCYX", "CTYX"])
def test_ome_tiff(tmp_path: Path, unit: str, factor: float, axes: str) -> None:
    path = tmp_path / "a.ome.tif"
    metadata = {"axes": axes, "SignificantBits": 12, "Channel": {"Name": ["DAPI", "FITC"]}}
    metadata |= {f"PhysicalSize{s}": 0.65 / factor for s in "XY"}
    metadata |= {f"PhysicalSize{s}Unit": unit for s in "XY"}
    tifffile.imwrite(path, np.zeros((2, 2, 32, 48), np.uint16), ome=True, metadata=metadata)
    with tifffile.TiffFile(path) as opened:
        found = TiffNotes(opened)
        names = [found.channel_name(page) for page in range(4)]
    assert found.pixel_size_um(3) == pytest.approx(0.65)
    assert found.bit_depth(3) == 12
    assert names == (["DAPI", "FITC"] * 2 if axes == "TCYX" else ["DAPI"] * 2 + ["FITC"] * 2)


def test_micro_manager(tmp_path: Path) -> None:
    note = json.dumps({"Channel": "GFP", "BitDepth": 14, "PixelSizeUm": 0.325})
    found = told(tmp_path / "a.tif", extratags=[(51123, 2, None, note, True)])
    assert found == (0.325, "GFP", 14)


def test_an_ome_tiff_that_names_a_file_elsewhere_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.ome.tif"
    tifffile.imwrite(path, PLANE, ome=True)
    with tifffile.TiffFile(path) as opened:
        text = str(opened.ome_metadata)
    named = '<TiffData><UUID FileName="../../elsewhere.ome.tif">urn:uuid:1</UUID></TiffData>'
    at = text.index("<TiffData")
    changed = text[:at] + named + text[at:]
    tifffile.imwrite(path, PLANE, description=changed.encode(), metadata=None)
    with tifffile.TiffFile(path) as opened, pytest.raises(RefocusError, match="elsewhere"):
        TiffNotes(opened)
    assert read_image(path).shape == PLANE.shape  # of this file alone


def test_light_is_bright_in_replay_too(tmp_path: Path) -> None:
    frame = np.arange(32 * 48, dtype=np.uint16).reshape(32, 48)
    tifffile.imwrite(tmp_path / "a.tif", frame, photometric="miniswhite")
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif"), np.invert(frame))


def test_names_are_read_as_people_count(tmp_path: Path) -> None:
    for name in ("t10.tif", "t2.tif", "t1.tif", "t02.tif", "._t1.tif", "A1.png", "²1.tif"):
        (tmp_path / name).touch()
    names = [p.name for p in list_images(tmp_path)]
    assert names == ["A1.png", "t1.tif", "t02.tif", "t2.tif", "t10.tif", "²1.tif"]


def test_an_image_that_is_a_link_out_of_its_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "b.tif").touch()
    (tmp_path / "in" / "a.tif").symlink_to(tmp_path / "b.tif")
    with pytest.raises(RefocusError, match=r"a\.tif: is a link that leads out"):
        list_images(tmp_path / "in")


@pytest.mark.parametrize(("shape", "said"), [((1 << 15, 1 << 15), "asks for"), ((0, 5), "no pix")])
def test_planes_have_bounds(shape: tuple[int, int], said: str) -> None:
    check_size((1 << 14, LARGEST_PIXELS >> 14), "a.tif")
    with pytest.raises(RefocusError, match=rf"a\.tif: .*{said}"):
        check_size(shape, "a.tif")
