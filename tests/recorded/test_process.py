"""Existing data through the engine: same format, axes, metadata and names; pixels refocused."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import ome_writers
import pytest
import tensorstore
import tifffile
from PIL import Image

from refocus.configs import RefocusError
from refocus.engine.fake import FakeEngine
from refocus.recorded.process import open_data_set, process
from refocus.recorded.refocusing import Options
from refocus.recorded.selection import Selection
from refocus.recorded.work import Processed

from .test_what_is_kept import planes, write_zarr


def some_planes(count: int, dtype: str = "uint16") -> np.ndarray[Any, Any]:
    return np.random.default_rng(0).integers(0, 255, (count, 48, 64)).astype(dtype)


def write_ome(path: Path, planes: np.ndarray[Any, Any], positions: int = 1) -> None:
    """Write t × p × c frames with ome-writers, as an acquisition does."""
    wells = [f"well{i}" for i in range(positions)]
    dims = [
        ome_writers.Dimension(name="t", count=len(planes) // (2 * positions), type="time"),
        ome_writers.Dimension(name="p", type="position", coords=wells),
        ome_writers.Dimension(name="c", type="channel", coords=["DAPI", "FITC"]),
        ome_writers.Dimension(name="y", count=48, type="space", scale=0.656, unit="micrometer"),
        ome_writers.Dimension(name="x", count=64, type="space", scale=0.656, unit="micrometer"),
    ]
    settings = ome_writers.AcquisitionSettings(
        root_path=str(path), dimensions=tuple(dims), dtype=str(planes.dtype)
    )
    with ome_writers.create_stream(settings) as stream:
        for plane in planes:
            stream.append(plane)


def run(source: Path, target: Path, engine: FakeEngine | None = None) -> Processed:
    seen: list[int] = []
    done = process(
        source,
        target,
        engine or FakeEngine(),
        on_progress=lambda d: seen.append(d.refocused + d.failed),
        options=Options(selection=Selection(refocus_z=True)),
        keep_going=True,
    )
    assert seen == list(range(1, done.refocused + done.failed + 1))
    return done


def read_zarr(path: Path) -> np.ndarray[Any, Any]:
    spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": str(path)}}
    return np.asarray(tensorstore.open(spec).result().read().result())


@pytest.mark.parametrize("positions", [1, 2])
def test_ome_zarr(tmp_path: Path, positions: int) -> None:
    source, target = tmp_path / "raw.ome.zarr", tmp_path / "out.ome.zarr"
    write_ome(source, some_planes(8), positions)
    assert len(open_data_set(source).planes) == 8
    assert run(source, target).refocused == 8
    documents = sorted(p.relative_to(source) for p in source.rglob("zarr.json"))
    made = {p.relative_to(target) for p in target.rglob("zarr.json")}
    assert made == {*documents, Path("tables/zarr.json"), Path("tables/refocus/zarr.json")}
    arrays = 0
    for document in documents:
        found, raw_text = (json.loads((x / document).read_text()) for x in (target, source))
        marked = found.get("attributes", {}).pop("refocus", None)
        assert found == raw_text
        assert (marked is None) == (found["node_type"] == "array" or document.parts[0] == "OME")
        if found["node_type"] == "array":
            arrays += 1
            raw = read_zarr((source / document).parent)
            np.testing.assert_array_equal(read_zarr((target / document).parent), np.invert(raw))
    assert arrays == positions


def test_ome_zarr_of_zarr_2_with_a_pyramid_and_labels(tmp_path: Path) -> None:
    source, target = tmp_path / "old.zarr", tmp_path / "out.zarr"
    axes = [{"name": "t", "type": "time"}, *({"name": n, "type": "space"} for n in "yx")]
    levels = [
        {"path": str(n), "coordinateTransformations": [{"type": "scale", "scale": [1, s, s]}]}
        for n, s in enumerate((1.0, 2.0))
    ]
    multiscales = [{"version": "0.4", "axes": axes, "datasets": levels}]
    for group, attributes in {"": {"multiscales": multiscales}, "labels": {"labels": []}}.items():
        (source / group).mkdir(parents=True)
        (source / group / ".zgroup").write_text('{"zarr_format": 2}')
        (source / group / ".zattrs").write_text(json.dumps(attributes))
    planes = np.full((3, 48, 64), 200, np.uint16)
    for level, shape in (("0", (3, 48, 64)), ("1", (3, 24, 32))):
        kvstore = {"driver": "file", "path": str(source / level)}
        metadata = {"shape": shape, "dtype": "<u2", "chunks": (2, 24, 32)}
        spec = {"driver": "zarr", "kvstore": kvstore, "metadata": metadata}
        array = tensorstore.open(spec, create=True).result()
        array.write(planes[:, : shape[1], : shape[2]]).result()
    assert run(source, target).refocused == 3
    for level, size in (("0", (3, 48, 64)), ("1", (3, 24, 32))):
        spec = {"driver": "zarr", "kvstore": {"driver": "file", "path": str(target / level)}}
        got = tensorstore.open(spec).result().read().result()
        assert got.shape == size
        assert (got == np.invert(np.uint16(200))).all()
    assert (target / "labels" / ".zattrs").exists()


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_ome_tiff(tmp_path: Path, dtype: str) -> None:
    source, target = tmp_path / "raw.ome.tiff", tmp_path / "out.ome.tiff"
    write_ome(source, some_planes(4, dtype))
    assert len(open_data_set(source).planes) == 4
    assert run(source, target).refocused == 4
    with tifffile.TiffFile(source) as raw, tifffile.TiffFile(target) as out:
        assert out.is_ome
        assert (out.series[0].axes, out.series[0].shape) == (
            raw.series[0].axes,
            raw.series[0].shape,
        )
        assert raw.ome_metadata
        assert out.ome_metadata == raw.ome_metadata.replace("raw.ome.tiff", "out.ome.tiff")
        np.testing.assert_array_equal(out.asarray(), np.invert(raw.asarray()))


def write_pyramid(path: Path, planes: np.ndarray[Any, Any], hanging: bool) -> None:
    """Write each plane and two smaller levels, hanging from it or as pages that follow it."""
    with tifffile.TiffWriter(path, ome=False) as writer:
        for plane in planes:
            options: dict[str, Any] = {"photometric": "minisblack", "metadata": None}
            if hanging:
                options["subifds"] = 2
            writer.write(plane, tile=(16, 16), **options)
            options.pop("subifds", None)
            for step in (2, 4):
                writer.write(plane[::step, ::step], subfiletype=1, tile=(16, 16), **options)


@pytest.mark.parametrize("hanging", [True, False], ids=["SubIFDs", "pages"])
def test_a_tiff_pyramid_keeps_its_levels(tmp_path: Path, hanging: bool) -> None:
    source, target = tmp_path / "raw.tif", tmp_path / "out.tif"
    planes = np.repeat(np.repeat(some_planes(2)[:, ::4, ::4], 4, axis=1), 4, axis=2)
    write_pyramid(source, planes, hanging)
    assert len(open_data_set(source).planes) == 2
    assert run(source, target).refocused == 2
    with tifffile.TiffFile(source) as raw, tifffile.TiffFile(target) as out:
        assert len(out.pages) == len(raw.pages) == (2 if hanging else 6)
        for page, like in zip(out.pages, raw.pages, strict=True):
            pages = [page.aspage(), *(level.aspage() for level in page.aspage().pages or ())]
            likes = [like.aspage(), *(level.aspage() for level in like.aspage().pages or ())]
            assert len(pages) == (3 if hanging else 1)
            for one, other in zip(pages, likes, strict=True):
                assert (one.shape, one.subfiletype) == (other.shape, other.subfiletype)
                assert one.tile == other.tile == (16, 16)
                # blocks of four by four: that every way of shrinking them agrees on
                np.testing.assert_array_equal(one.asarray(), np.invert(other.asarray()))


def test_a_tiff_whose_zero_is_white_stays_one_and_is_refocused_as_light(tmp_path: Path) -> None:
    source, target = tmp_path / "raw.tif", tmp_path / "out.tif"
    (plane,) = some_planes(1)
    tifffile.imwrite(source, plane, photometric="miniswhite")
    seen = []

    class Looking(FakeEngine):
        def refocus(self, frame: Any) -> Any:
            seen.append(frame.copy())
            return super().refocus(frame)

    assert run(source, target, Looking()).refocused == 1
    np.testing.assert_array_equal(seen[0], np.invert(plane))
    with tifffile.TiffFile(target) as out:
        assert out.pages[0].aspage().photometric == tifffile.PHOTOMETRIC.MINISWHITE
        np.testing.assert_array_equal(out.asarray(), np.invert(plane))


@pytest.mark.parametrize(
    ("source", "target", "wanted"),
    [
        ("raw.tif", "out.png", "give it a name in .tif or .tiff"),
        ("raw.tif", "out", "give it a name in .tif or .tiff"),
        ("raw.png", "out.tif", "give it a name in .png"),
        ("raw", "out.tiff", "give it the name of a folder"),
        ("raw.ome.zarr", "out.PNG", "give it the name of a folder"),
    ],
)
def test_a_result_is_named_for_what_it_is(
    tmp_path: Path, source: str, target: str, wanted: str
) -> None:
    if source.endswith(".zarr"):
        write_ome(tmp_path / source, some_planes(4))
    elif source == "raw":
        (tmp_path / source).mkdir()
        Image.fromarray(some_planes(1)[0]).save(tmp_path / source / "a.png")
    else:
        Image.fromarray(some_planes(1)[0]).save(tmp_path / source)
    with pytest.raises(RefocusError, match=wanted):
        run(tmp_path / source, tmp_path / target)
    assert not (tmp_path / target).exists()


@pytest.mark.parametrize("name", ["raw.ome.zarr", "raw.tif", "raw"])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_run_that_ends_early_is_in_nobodys_way(
    tmp_path: Path, name: str, error: BaseException
) -> None:
    source, target = tmp_path / name, tmp_path / name.replace("raw", "out")
    planes = some_planes(4)
    if name == "raw":
        source.mkdir()
        for number, plane in enumerate(planes):
            Image.fromarray(plane).save(source / f"{number}.png")
    elif name == "raw.tif":
        tifffile.imwrite(source, planes, photometric="minisblack", metadata=None)
    else:
        write_ome(source, planes)

    class Ending(FakeEngine):
        def refocus(self, frame: Any) -> Any:
            if self.calls > 2:
                raise error
            return super().refocus(frame)

    with pytest.raises(RefocusError if isinstance(error, OSError) else KeyboardInterrupt):
        run(source, target, Ending())
    # what is done, and nothing that looks whole
    assert sorted(path.name for path in tmp_path.iterdir()) == [f".{target.name}.unfinished", name]
    assert run(source, target).refocused == 4
    marks = ("json", "csv") if name == "raw.tif" else ()
    record = [f"{target.name}.refocus.{mark}" for mark in marks]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([name, target.name, *record])


def test_a_folder_of_images_keeps_names_and_formats(tmp_path: Path) -> None:
    source, target = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    planes = some_planes(4)
    Image.fromarray(planes[0].astype(np.uint8)).save(source / "a.png")
    Image.fromarray(planes[1]).save(source / "b.png")
    tifffile.imwrite(source / "c.tif", planes[2], compression="lzw", resolution=(3, 3))
    tifffile.imwrite(source / "d.tif", planes, imagej=True)
    (source / "notes.txt").write_text("not an image")
    assert run(source, target).refocused == 7
    assert sorted(p.name for p in target.iterdir()) == [
        *("a.png", "b.png", "c.tif", "d.tif"),
        *("notes.txt", "refocus.csv", "refocus.json"),
    ]
    inverted = np.invert(planes)
    np.testing.assert_array_equal(np.asarray(Image.open(target / "b.png")), inverted[1])
    np.testing.assert_array_equal(tifffile.imread(target / "d.tif"), inverted)
    with tifffile.TiffFile(target / "c.tif") as tiff:
        assert tiff.pages[0].aspage().compression == tifffile.COMPRESSION.LZW
        assert tiff.pages[0].aspage().resolution == (3, 3)


def test_a_plane_that_fails_is_left_out_and_the_rest_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = tmp_path / "raw.ome.zarr"
    write_ome(source, some_planes(4))
    done = run(source, tmp_path / "out.ome.zarr", FakeEngine(fail_on=frozenset({1})))
    assert (done.refocused, done.failed) == (3, 1)
    out, raw = read_zarr(tmp_path / "out.ome.zarr" / "0"), read_zarr(source / "0")
    assert (out[0, 1] == 0).all()
    np.testing.assert_array_equal(out[1], np.invert(raw[1]))
    assert "left out" in caplog.text


def colour_tiff(path: Path) -> None:
    tifffile.imwrite(path, np.zeros((48, 64, 3), np.uint8), photometric="rgb")


def float_tiff(path: Path) -> None:
    tifffile.imwrite(path, np.zeros((48, 64), np.float32))


def half_a_tiff(path: Path) -> None:
    tifffile.imwrite(path, some_planes(1)[0], compression="zlib")
    path.write_bytes(path.read_bytes()[:600])


def wide_zarr(path: Path) -> None:
    write_ome(path, some_planes(4).astype(np.uint32))


def empty_zarr(path: Path) -> None:
    path.mkdir()
    (path / "zarr.json").write_text('{"zarr_format": 3, "node_type": "group"}')


@pytest.mark.parametrize(
    ("name", "write", "expected"),
    [
        ("a.tif", colour_tiff, "has shape (48, 64, 3)"),
        ("a.tif", float_tiff, "uint8 or uint16 is needed"),
        ("a.tif", half_a_tiff, "not "),
        ("a.tif", lambda path: path.write_bytes(b"hello"), "not a readable TIFF"),
        ("a.png", lambda path: path.write_bytes(b"hello"), "not a readable image"),
        ("a.jpg", lambda path: path.write_bytes(b"hello"), "not a format that is read"),
        ("a", lambda path: path.mkdir(), "holds no image"),
        ("a.ome.zarr", wide_zarr, "uint8 or uint16 is needed"),
        ("a.ome.zarr", empty_zarr, "holds no OME-Zarr image"),
        ("a.ome.zarr", lambda path: None, "no such file or folder"),
    ],
)
def test_what_cannot_be_processed_is_named(
    tmp_path: Path, name: str, write: Any, expected: str
) -> None:
    source = tmp_path / name
    write(source)
    with pytest.raises(RefocusError) as caught:
        run(source, tmp_path / f"out-{name}")
    message = str(caught.value)
    assert expected in message
    assert str(source) in message
    assert "\n" not in message
    assert not [p.name for p in tmp_path.iterdir() if p.name.endswith(".unfinished")]


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    source = tmp_path / "in"
    source.mkdir()
    Image.fromarray(some_planes(1, "uint8")[0]).save(source / "a.png")
    with pytest.raises(RefocusError, match="exists already"):
        run(source, source)
    with pytest.raises(RefocusError, match="lies inside"):
        run(source, source / "out")


def test_two_images_of_one_group_are_both_told_of(tmp_path: Path) -> None:
    write_zarr(tmp_path / "a.zarr", [planes(2)], "tyx")
    write_zarr(tmp_path / "b.zarr", [planes(3)], "tyx", ["other"])
    (tmp_path / "b.zarr/other").rename(tmp_path / "a.zarr/other")
    first, second = (
        json.loads((tmp_path / n / ".zattrs").read_text()) for n in ("a.zarr", "b.zarr")
    )
    first["multiscales"] += second["multiscales"]
    (tmp_path / "a.zarr/.zattrs").write_text(json.dumps(first))
    assert run(tmp_path / "a.zarr", tmp_path / "c.zarr").refocused == 5
    said = json.loads((tmp_path / "c.zarr/.zattrs").read_text())["refocus"]
    assert [plane["plane"] for plane in said["planes"]] == [[0], [1], [0], [1], [2]]
