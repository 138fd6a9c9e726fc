"""What a data set had beside its pixels is kept; what made the new ones is written beside it."""

import json
import os
import re
import struct
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import tensorstore
import tifffile
from PIL import Image, PngImagePlugin

from refocus.configs import RefocusError
from refocus.engine.fake import FakeEngine
from refocus.recorded.process import process
from refocus.recorded.refocusing import Options
from refocus.recorded.selection import Selection
from refocus.recorded.work import Processed

Pixels = np.ndarray[Any, Any]


def run(source: Path, target: Path) -> Processed:
    whole = Options(selection=Selection(refocus_z=True))
    return process(source, target, FakeEngine(), lambda done: None, whole, keep_going=True)


def planes(count: int) -> Pixels:
    return np.random.default_rng(0).integers(0, 4096, (count, 48, 64)).astype(np.uint16)


def write_zarr(
    path: Path, levels: list[Pixels], axes: str, names: list[str] | None = None, **how: Any
) -> None:
    kinds = {"t": "time", "c": "channel"}
    path.mkdir(parents=True)
    (path / ".zgroup").write_text('{"zarr_format": 2}')
    names = names or [str(n) for n in range(len(levels))]
    for name, level in zip(names, levels, strict=True):
        spec = {"driver": "zarr", "kvstore": {"driver": "file", "path": str(path / name)}}
        metadata = {
            "shape": level.shape,
            "dtype": level.dtype.str,
            "dimension_separator": "/",
            **how,
        }
        array = tensorstore.open({**spec, "metadata": metadata}, create=True).result()
        array.write(level).result()
    scale = {"type": "scale", "scale": [1.0] * levels[0].ndim}
    multiscale = {
        "version": "0.4",
        "axes": [{"name": a, "type": kinds.get(a, "space")} for a in axes],
        "datasets": [{"path": n, "coordinateTransformations": [scale]} for n in names],
    }
    (path / ".zattrs").write_text(json.dumps({"multiscales": [multiscale], "mine": {"a": 1}}))


def read_zarr(path: Path) -> Pixels:
    spec = {"driver": "zarr", "kvstore": {"driver": "file", "path": str(path)}}
    return np.asarray(tensorstore.open(spec).result().read().result())


def binned(volume: Pixels, steps: tuple[int, ...]) -> Pixels:
    shape = [
        n for length, step in zip(volume.shape, steps, strict=True) for n in (length // step, step)
    ]
    odd = tuple(range(1, 2 * volume.ndim, 2))
    return np.rint(volume.reshape(shape).mean(odd)).astype(volume.dtype)


@pytest.mark.parametrize(
    ("axes", "shape", "steps"),
    [
        ("zyx", (4, 48, 64), (2, 2, 2)),
        ("zyx", (4, 48, 64), (4, 1, 1)),
        ("tczyx", (2, 1, 4, 48, 64), (1, 1, 2, 2, 2)),
        ("tyx", (4, 48, 64), (1, 2, 2)),
    ],
)
def test_every_level_of_a_pyramid_is_made_of_the_refocused_one(
    tmp_path: Path, axes: str, shape: tuple[int, ...], steps: tuple[int, ...]
) -> None:
    volume = np.random.default_rng(0).integers(0, 4096, shape).astype(np.uint16)
    write_zarr(tmp_path / "in.zarr", [volume, binned(volume, steps)], axes)
    run(tmp_path / "in.zarr", tmp_path / "out.zarr")
    np.testing.assert_array_equal(read_zarr(tmp_path / "out.zarr/0"), np.invert(volume))
    wanted = binned(np.invert(volume), steps).astype(int)
    assert np.abs(read_zarr(tmp_path / "out.zarr/1") - wanted).max() <= 1


@pytest.mark.parametrize("axes", ["xy", "yxz", "xyz", "tyxz", "cxyz", "zyx"])
def test_planes_lie_along_y_and_x_whatever_the_order_of_the_axes(tmp_path: Path, axes: str) -> None:
    sizes = {"t": 2, "c": 2, "z": 3, "y": 48, "x": 64}
    volume = np.arange(np.prod([sizes[a] for a in axes]), dtype=np.uint16)
    volume = volume.reshape([sizes[a] for a in axes])
    write_zarr(tmp_path / "in.zarr", [volume], axes)
    seen = []

    class Looking(FakeEngine):
        def refocus(self, frame: Any) -> Any:
            seen.append(frame.shape)
            return super().refocus(frame)

    whole = Options(selection=Selection(refocus_z=True))
    process(tmp_path / "in.zarr", tmp_path / "out.zarr", Looking(), lambda done: None, whole)
    assert set(seen) == {(48, 64)}
    np.testing.assert_array_equal(read_zarr(tmp_path / "out.zarr/0"), np.invert(volume))


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("byteorder", ["<", ">"])
def test_tiff_tags_are_kept_byte_by_byte(tmp_path: Path, byteorder: Any, big: bool) -> None:
    source, target = tmp_path / "in.tif", tmp_path / "out.tif"
    with tifffile.TiffWriter(source, byteorder=byteorder, bigtiff=big) as writer:
        for number, plane in enumerate(planes(3)):
            note = json.dumps({"ZPositionUm": number, "Channel": "DAPI"})
            tags = [(51123, 2, None, note, True), (315, 2, None, "operator", True)]
            tags += [(65000, 12, 2, (0.5, 1.5), True), (65001, 3, 3, (1, 2, 3), True)]
            tags += [(286, 5, 1, (7, 3), True), (65002, 10, 2, (-1, 2, 3, -4), True)]
            options: dict[str, Any] = {"datetime": "2025:01:01 10:00:00", "extratags": tags}
            writer.write(plane, contiguous=False, metadata=None, software="MM", **options)
    run(source, target)
    with tifffile.TiffFile(source) as raw, tifffile.TiffFile(target) as out:
        for one, other in zip(raw.pages, out.pages, strict=True):
            kept, had = other.aspage().tags, one.aspage().tags
            for code in (286, 306, 315, 51123, 65000, 65001, 65002):
                assert (kept[code].count, kept[code].value) == (had[code].count, had[code].value)
        assert out.pages[0].aspage().software.startswith("MM; refocus-live ")
        np.testing.assert_array_equal(out.asarray(), np.invert(raw.asarray()))


def test_imagej_keeps_labels_and_ranges(tmp_path: Path) -> None:
    notes = {"axes": "TCYX", "unit": "um", "finterval": 2.5}
    notes |= {"Labels": [f"label {i}" for i in range(6)], "Ranges": (1.0, 30.0, 1.0, 20.0)}
    stack = planes(6).reshape(3, 2, 48, 64)
    tifffile.imwrite(tmp_path / "in.tif", stack, imagej=True, metadata=notes)
    run(tmp_path / "in.tif", tmp_path / "out.tif")
    with (
        tifffile.TiffFile(tmp_path / "in.tif") as raw,
        tifffile.TiffFile(tmp_path / "out.tif") as out,
    ):
        assert out.is_imagej
        assert out.imagej_metadata == raw.imagej_metadata
        assert out.series[0].axes == raw.series[0].axes


def test_png_keeps_text_and_resolution_and_says_who_made_it(tmp_path: Path) -> None:
    info = PngImagePlugin.PngInfo()
    info.add_text("PixelSizeUm", "0.65")
    Image.fromarray(planes(1)[0]).save(tmp_path / "in.png", pnginfo=info, dpi=(300, 300))
    run(tmp_path / "in.png", tmp_path / "out.png")
    before, after = Image.open(tmp_path / "in.png"), Image.open(tmp_path / "out.png")
    assert after.info == before.info | {"Software": after.info["Software"]}
    assert after.info["Software"].startswith("refocus-live ")
    np.testing.assert_array_equal(np.asarray(after), np.invert(np.asarray(before)))


def test_a_folder_keeps_its_notes_and_goes_on_past_what_is_damaged(tmp_path: Path) -> None:
    source, target = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    for name in ("t1.tif", "t2.tif", "t10.tif"):
        tifffile.imwrite(source / name, planes(1)[0])
    (source / "._t1.tif").write_bytes(b"\x00\x05\x16\x07 of macOS")
    (source / "t3.tif").write_bytes(b"II*\x00 damaged")
    (source / "metadata.txt").write_text('{"Summary": 1}')
    secret = tmp_path / "secret.txt"
    secret.write_text("elsewhere")
    (source / "notes.txt").symlink_to(secret)
    done = run(source, target)
    assert (done.refocused, done.failed) == (3, 1)
    names = sorted(p.name for p in target.iterdir())
    assert names == ["metadata.txt", "refocus.csv", "refocus.json", "t1.tif", "t10.tif", "t2.tif"]
    records = json.loads((target / "refocus.json").read_text())
    assert [r["source"] for r in records] == ["t1.tif", "t2.tif", "t3.tif", "t10.tif"]
    assert "left_out" in records[2]["planes"][0]


def test_a_damaged_page_is_left_out_and_the_rest_goes_on(tmp_path: Path) -> None:
    source, target = tmp_path / "in.tif", tmp_path / "out.tif"
    tifffile.imwrite(source, planes(3), compression="zlib", metadata=None, photometric="minisblack")
    with tifffile.TiffFile(source) as tiff:
        at = tiff.pages[1].aspage().dataoffsets[0]
    content = bytearray(source.read_bytes())
    content[at : at + 20] = b"\xff" * 20
    source.write_bytes(content)
    done = run(source, target)
    assert (done.refocused, done.failed) == (2, 1)
    assert not tifffile.imread(target)[1].any()


def test_every_result_says_what_made_it(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", planes(2), photometric="minisblack", metadata=None)
    write_zarr(tmp_path / "a.zarr", [planes(2)], "tyx")
    run(tmp_path / "a.tif", tmp_path / "b.tif")
    run(tmp_path / "a.zarr", tmp_path / "b.zarr")
    run(tmp_path / "b.zarr", tmp_path / "c.zarr")
    beside = json.loads((tmp_path / "b.tif.refocus.json").read_text())
    found, again = (
        json.loads((tmp_path / n / ".zattrs").read_text()) for n in ("b.zarr", "c.zarr")
    )
    assert found["mine"] == {"a": 1}
    for record, source in ((beside, "a.tif"), (found["refocus"], "a.zarr")):
        assert record["source"] == source
        assert record["engine"]["name"] == "fake"
        assert "sha256" in record["engine"]
        assert [p["verdict"] for p in record["planes"]] == ["unrated"] * 2
    assert again["refocus"]["before"]["source"] == "a.zarr"


def ome_tiff(path: Path, pixels: Pixels, bits: int) -> None:
    tifffile.imwrite(path, pixels, ome=True, metadata={"axes": "ZYX", "SignificantBits": bits})


@pytest.mark.parametrize(("bits", "top"), [(10, None), (12, 4095), (14, 16383), (16, 65535)])
def test_pixels_stay_within_the_bit_depth_that_is_stated(
    tmp_path: Path, bits: int, top: int | None
) -> None:
    ome_tiff(tmp_path / "in.ome.tif", planes(2), bits)  # up to 4095
    run(tmp_path / "in.ome.tif", tmp_path / "out.ome.tif")
    inverted = np.invert(planes(2))
    # 10 bits are not those of these pixels: nothing is clipped
    wanted = inverted if top is None else np.minimum(inverted, top)
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "out.ome.tif"), wanted)


@pytest.mark.parametrize("path", ["../../elsewhere", "/elsewhere", "0/../../elsewhere", "", "."])
def test_a_level_that_lies_elsewhere_is_refused_and_left_alone(tmp_path: Path, path: str) -> None:
    write_zarr(tmp_path / "in.zarr", [planes(2)], "tyx")
    write_zarr(tmp_path / "elsewhere", [planes(2)], "tyx")
    document = tmp_path / "in.zarr/.zattrs"
    attributes = json.loads(document.read_text())
    attributes["multiscales"][0]["datasets"][0]["path"] = path
    document.write_text(json.dumps(attributes))
    with pytest.raises(RefocusError, match=r"in\.zarr"):
        run(tmp_path / "in.zarr", tmp_path / "out" / "out.zarr")
    np.testing.assert_array_equal(read_zarr(tmp_path / "elsewhere/0"), planes(2))


@pytest.mark.parametrize("place", ["labels", "0/9", "notes.txt"])
def test_a_link_out_of_a_data_set_is_refused(tmp_path: Path, place: str) -> None:
    write_zarr(tmp_path / "in.zarr", [planes(2)], "tyx")
    outside = tmp_path / "outside"
    outside.mkdir()
    (tmp_path / "in.zarr" / place).symlink_to(outside)
    with pytest.raises(RefocusError, match="is a link that leads out of"):
        run(tmp_path / "in.zarr", tmp_path / "out.zarr")
    assert not (tmp_path / "out.zarr").exists()


def test_a_link_round_in_a_circle_is_refused(tmp_path: Path) -> None:
    write_zarr(tmp_path / "in.zarr", [planes(2)], "tyx")
    (tmp_path / "in.zarr" / "loop").symlink_to(tmp_path / "in.zarr")
    with pytest.raises(RefocusError, match="leads in a circle"):
        run(tmp_path / "in.zarr", tmp_path / "out.zarr")


def test_a_small_tiff_that_asks_for_gigabytes_is_refused_in_a_line(tmp_path: Path) -> None:
    path = tmp_path / "in.tif"
    tifffile.imwrite(path, np.zeros((64, 64), np.uint16), metadata=None)
    with tifffile.TiffFile(path, mode="r+") as tiff:
        for name in ("ImageWidth", "ImageLength"):
            tag = tiff.pages[0].aspage().tags[name]
            tiff.filehandle.seek(tag.offset + 2)
            tiff.filehandle.write(struct.pack("<HII", 4, 1, 40_000))
    with pytest.raises(RefocusError, match=r"in\.tif, page 0: asks for 40000×40000 pixels"):
        run(path, tmp_path / "out.tif")


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        ({"axes": None}, "multiscales.0.axes"),
        ({"datasets": []}, "multiscales.0.datasets"),
        ({"version": "0.2"}, "multiscales.0.version"),
    ],
)
def test_broken_metadata_are_told_in_a_line(tmp_path: Path, broken: Any, said: str) -> None:
    write_zarr(tmp_path / "in.zarr", [planes(2)], "tyx")
    document = tmp_path / "in.zarr/.zattrs"
    attributes = json.loads(document.read_text())
    attributes["multiscales"][0] |= broken
    document.write_text(json.dumps(attributes))
    with pytest.raises(RefocusError, match=said) as caught:
        run(tmp_path / "in.zarr", tmp_path / "out.zarr")
    assert "\n" not in str(caught.value)


def write_ome(path: Path, named: str) -> Path:
    """Write two channels whose OME-XML names the file, by an attribute with quotes around it."""
    about = {"axes": "CYX", "Channel": {"Name": ["DAPI", "GFP"]}}
    tifffile.imwrite(path, planes(2), ome=True, photometric="minisblack", metadata=about)
    with tifffile.TiffFile(path) as opened:
        text = opened.ome_metadata
    assert text is not None
    uuid = ElementTree.fromstring(text).get("UUID")
    one = '<TiffData FirstC="{0}" IFD="{0}" PlaneCount="1"><UUID FileName={1}>{2}</UUID></TiffData>'
    both = "".join(one.format(c, named, uuid) for c in range(2))
    tifffile.tiffcomment(path, re.sub("<TiffData.*?/>", lambda found: both, text, count=1).encode())
    return path


@pytest.mark.parametrize(
    ("name", "named", "target"),
    [
        ("a.ome.tif", '"a.ome.tif"', "b.ome.tif"),
        ("a.ome.tif", '"before.ome.tif"', "b.ome.tif"),
        ("a.ome.tif", '"a.ome.tif"', "a&b.ome.tif"),
        ("p&q.ome.tif", '"p&amp;q.ome.tif"', "b<c.ome.tif"),
        ("mµ.ome.tif", '"m&#181;.ome.tif"', "µ.ome.tif"),
        ("mµ.ome.tif", '"m&#xB5;.ome.tif"', 'a"b.ome.tif'),
        ("a.ome.tif", "'a.ome.tif'", 'i\'s "b".ome.tif'),
        ("i's.ome.tif", '"i&apos;s.ome.tif"', "i's.b.ome.tif"),
        ("a>b.ome.tif", '"a>b.ome.tif"', "b>c.ome.tif"),
    ],
)
def test_channels_and_names_of_an_ome_tiff(
    tmp_path: Path, name: str, named: str, target: str
) -> None:
    source, out = write_ome(tmp_path / name, named), tmp_path / target
    one = Options(selection=Selection(channels={"DAPI": "auto"}))
    done = process(source, out, FakeEngine(), lambda done: None, one)
    assert done.refocused == 1
    with tifffile.TiffFile(out) as opened:
        root = ElementTree.fromstring(opened.ome_metadata or "")
        names = {e.get("FileName") for e in root.iter() if e.tag.endswith("UUID")}
        pixels = opened.asarray()
    assert names == {target}
    np.testing.assert_array_equal(pixels, [np.invert(planes(2)[0]), planes(2)[1]])


@pytest.mark.skipif(os.name == "nt", reason="has no such permissions")
def test_what_cannot_be_written_is_copied_into_what_can(tmp_path: Path) -> None:
    source, out = tmp_path / "in.zarr", tmp_path / "out.zarr"
    write_zarr(source, [planes(2)], "tyx")
    every = [source, *source.rglob("*")]
    for path in every:
        path.chmod(0o555 if path.is_dir() else 0o444)
    assert run(source, out).refocused == 2
    assert all(path.stat().st_mode & 0o200 for path in (out, *out.rglob("*")))
    assert not any(path.stat().st_mode & 0o222 for path in every)


def test_packed_pixels_stay_within_their_bits(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", planes(1)[0] % 4096, bitspersample=12)
    assert run(tmp_path / "a.tif", tmp_path / "b.tif").refocused == 1
    assert tifffile.imread(tmp_path / "b.tif").max() == 4095


def test_colours_of_imagej_are_no_planes(tmp_path: Path) -> None:
    colours = np.random.default_rng(0).integers(0, 255, (48, 64, 3)).astype(np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", colours, imagej=True)
    red = Options(selection=Selection(channels={"red": "auto"}))
    process(tmp_path / "a.tif", tmp_path / "b.tif", FakeEngine(), lambda done: None, red)
    np.testing.assert_array_equal(
        tifffile.imread(tmp_path / "b.tif")[..., 0], np.invert(colours[..., 0])
    )


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_what_imagej_shows_in_colours_is_light(tmp_path: Path, dtype: type) -> None:
    fire = np.random.default_rng(1).integers(0, 255, (3, 256)).astype(np.uint8)
    pixels = planes(1)[0].astype(dtype)
    tifffile.imwrite(tmp_path / "a.tif", pixels, imagej=True, metadata={"LUTs": [fire]})
    assert run(tmp_path / "a.tif", tmp_path / "b.tif").refocused == 1
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "b.tif"), np.invert(pixels))


def test_a_palette_that_is_a_ramp_is_kept_and_another_is_no_light(tmp_path: Path) -> None:
    green = np.zeros((3, 256), np.uint16)
    green[1] = np.arange(256) * 256
    pixels = planes(1)[0].astype(np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="palette", colormap=green)
    run(tmp_path / "a.tif", tmp_path / "b.tif")
    with tifffile.TiffFile(tmp_path / "b.tif") as opened:
        page = opened.pages[0].aspage()
        np.testing.assert_array_equal(page.asarray(), np.invert(pixels))
        np.testing.assert_array_equal(page.colormap, green)
    few = (320, 3, 48, tuple(green[:, ::16].ravel().tolist()))
    tifffile.imwrite(tmp_path / "p.tif", pixels % 16, bitspersample=4, extratags=[few])
    with tifffile.TiffFile(tmp_path / "p.tif", mode="r+b") as opened:
        opened.pages[0].aspage().tags["PhotometricInterpretation"].overwrite(3)
    assert run(tmp_path / "p.tif", tmp_path / "q.tif").refocused == 1
    tifffile.imwrite(tmp_path / "c.tif", pixels, photometric="palette", colormap=green[:, ::-1])
    with pytest.raises(RefocusError, match=r"has a colour palette that is no ramp.*grey values"):
        run(tmp_path / "c.tif", tmp_path / "d.tif")
