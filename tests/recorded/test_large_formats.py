"""Planes of several regions in every form that they come in: the same form, as of one pass.

That each region has the bits of one pass is held by ``test_large_planes.py``.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorstore
import tifffile

from refocus.engine.fake import FakeEngine
from refocus.engine.tiling import HALO
from refocus.recorded import regions
from refocus.recorded.levels import Shrinking
from refocus.recorded.process import process
from refocus.recorded.refocusing import Options
from refocus.recorded.selection import Selection
from refocus.recorded.zarr_writer import UnderWay

Pixels = np.ndarray[Any, Any]
SIDE = 2 * HALO + 256
SHAPE = 521, 403
HALF = 260, 201
WHOLE = Options(selection=Selection(refocus_z=True))


@pytest.fixture(autouse=True)
def small_regions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let planes of some hundred pixels have several regions."""
    monkeypatch.setattr(regions, "LARGEST", 0)
    monkeypatch.setattr(regions, "SIDE", SIDE)


@pytest.fixture(scope="module")
def planes() -> Pixels:
    return np.random.default_rng(0).integers(0, 4096, (2, *SHAPE)).astype(np.uint16)


def refocused(source: Path, target: Path) -> None:
    seen = []
    process(source, target, FakeEngine(), lambda done: seen.append(done.of_regions), WHOLE)
    assert seen == [2 * 3 * 2] * len(seen)


def shrunk(plane: Pixels) -> Pixels:
    return np.concatenate(list(Shrinking(SHAPE, HALF, plane.dtype).rows(plane)))


TILED: dict[str, Any] = {"tile": (64, 96)}
TIFFS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "tiles": ({}, {**TILED}),
    "tiles, LZW, differences": ({}, {**TILED, "compression": "lzw", "predictor": True}),
    "tiles, zstd": ({}, {**TILED, "compression": "zstd"}),
    "one strip": ({}, {"rowsperstrip": SHAPE[0]}),
    "strips, deflate": ({}, {"rowsperstrip": 37, "compression": "zlib"}),
    "strips, differences": ({}, {"rowsperstrip": 50, "compression": "zlib", "predictor": True}),
    "big-endian strips, differences": (
        {"byteorder": ">"},
        {"rowsperstrip": 50, "compression": "lzw", "predictor": True},
    ),
    "strips of one row": ({}, {"rowsperstrip": 1, "compression": "lzw"}),
    "big-endian strips": ({"byteorder": ">"}, {"rowsperstrip": 64, "compression": "zlib"}),
    "BigTIFF, tiles": ({"bigtiff": True}, {**TILED, "compression": "zlib"}),
    "BigTIFF, big-endian, stored": ({"bigtiff": True, "byteorder": ">"}, {"rowsperstrip": 16}),
}
LAYOUT = ("is_tiled", "tile", "rowsperstrip", "compression", "predictor", "dtype", "shape")


@pytest.mark.parametrize("levels", ["none", "hanging", "following"])
@pytest.mark.parametrize("form", TIFFS)
def test_a_tiff_is_that_of_one_pass_in_its_layout(
    tmp_path: Path, planes: Pixels, form: str, levels: str
) -> None:
    of_file, of_page = TIFFS[form]
    source, target = tmp_path / "in.tif", tmp_path / "out.tif"
    write_tiff(source, planes, of_file, of_page, levels)
    refocused(source, target)
    compare_tiffs(source, target, np.invert(planes), levels)


def write_tiff(
    path: Path, planes: Pixels, of_file: dict[str, Any], of_page: dict[str, Any], levels: str
) -> None:
    with tifffile.TiffWriter(path, **of_file) as writer:
        for plane in planes:
            hanging = {"subifds": 1} if levels == "hanging" else {}
            about = {"photometric": "minisblack", "metadata": None, "resolution": (5000, 5000)}
            writer.write(plane, **about, **of_page, **hanging)
            if levels != "none":
                writer.write(shrunk(plane), subfiletype=1, **about, **of_page)


def compare_tiffs(source: Path, target: Path, wanted: Pixels, levels: str) -> None:
    with tifffile.TiffFile(source) as raw, tifffile.TiffFile(target) as out:
        assert (out.is_bigtiff, out.byteorder) == (raw.is_bigtiff, raw.byteorder)
        assert len(out.pages) == len(raw.pages) == len(wanted) * (1 + (levels == "following"))
        found = [page.aspage() for page in out.pages]
        had = [page.aspage() for page in raw.pages]
        if levels == "hanging":
            found = [p for page in found for p in (page, *(s.aspage() for s in page.pages))]
            had = [p for page in had for p in (page, *(s.aspage() for s in page.pages))]
        for one, other in zip(found, had, strict=True):
            for name in LAYOUT:
                assert getattr(one, name) == getattr(other, name), name
            assert one.resolution == other.resolution
        full = found if levels == "none" else found[::2]
        for page, plane in zip(full, wanted, strict=True):
            np.testing.assert_array_equal(page.asarray(), plane)
        if levels != "none":
            for page, plane in zip(found[1::2], wanted, strict=True):
                np.testing.assert_array_equal(page.asarray(), shrunk(plane))


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("axes", ["CYX", "ZYX", "TCYX"])
def test_an_ome_tiff_with_levels_keeps_its_xml(
    tmp_path: Path, planes: Pixels, axes: str, big: bool
) -> None:
    source, target = tmp_path / "in.ome.tif", tmp_path / "out.ome.tif"
    stack = planes if len(axes) == 3 else planes[None]
    about = {"photometric": "minisblack", "compression": "zlib", **TILED}
    with tifffile.TiffWriter(source, bigtiff=big, ome=True) as writer:
        writer.write(stack, subifds=1, metadata={"axes": axes, "Name": "cells"}, **about)
        half = np.stack([shrunk(plane) for plane in planes]).reshape(*stack.shape[:-2], *HALF)
        writer.write(half, subfiletype=1, **about)
    refocused(source, target)
    compare_tiffs(source, target, np.invert(planes), "hanging")
    with tifffile.TiffFile(source) as raw, tifffile.TiffFile(target) as out:
        assert out.ome_metadata == (raw.ome_metadata or "").replace("in.ome.tif", "out.ome.tif")
        assert [level.shape for level in out.series[0].levels] == [
            level.shape for level in raw.series[0].levels
        ]
        np.testing.assert_array_equal(out.series[0].levels[0].asarray(), np.invert(stack).squeeze())


BLOSC = {"id": "blosc", "cname": "lz4", "clevel": 5, "shuffle": 1}
BYTES = {"name": "bytes", "configuration": {"endian": "big"}}
ZSTD = {"name": "zstd", "configuration": {"level": 1}}
TURNED = {"name": "transpose", "configuration": {"order": [2, 0, 1]}}


def sharded(*chunk: int) -> list[Any]:
    inner = {"chunk_shape": chunk, "codecs": [BYTES, ZSTD], "index_location": "start"}
    return [{"name": "sharding_indexed", "configuration": inner}]


ZARRS: dict[str, tuple[str, tuple[int, ...], dict[str, Any]]] = {
    "0.4": ("cyx", (1, 128, 100), {"compressor": BLOSC}),
    "0.4, dots, big-endian": ("zyx", (1, 64, 403), {"dimension_separator": ".", "dtype": ">u2"}),
    "0.4, planes share chunks": ("zyx", (2, 100, 90), {"compressor": {"id": "zlib", "level": 1}}),
    "0.4, columns first": ("tczyx", (1, 1, 1, 521, 64), {"order": "F", "compressor": None}),
    "0.4, z last": ("yxz", (128, 128, 1), {}),
    "0.4, x before y": ("cxy", (2, 128, 600), {}),
    "0.5": ("czyx", (1, 1, 128, 128), {"codecs": [BYTES, ZSTD]}),
    "0.5, transposed": ("cyx", (1, 128, 128), {"codecs": [TURNED, BYTES]}),
    "0.5, sharded": ("cyx", (1, 256, 192), {"codecs": sharded(1, 64, 64)}),
    "0.5, one shard": ("tzyx", (1, 2, 640, 448), {"codecs": sharded(1, 1, 64, 64)}),
    "0.5, sharded, z last": ("yxz", (256, 256, 2), {"codecs": sharded(32, 64, 1)}),
    "0.5, sharded, x first": ("cxzy", (1, 192, 1, 256), {"codecs": sharded(1, 48, 1, 64)}),
}


@pytest.mark.parametrize("form", ZARRS)
def test_a_zarr_is_that_of_one_pass_in_its_chunks(
    tmp_path: Path, planes: Pixels, form: str
) -> None:
    source, target = tmp_path / "in.zarr", tmp_path / "out.zarr"
    axes = ZARRS[form][0]
    write_zarr(source, planes, form)
    refocused(source, target)
    wanted = np.invert(planes)
    np.testing.assert_array_equal(read_zarr(target / "0"), arranged(wanted, axes))
    half = np.stack([shrunk(plane) for plane in wanted])
    np.testing.assert_array_equal(read_zarr(target / "1"), arranged(half, axes))
    for level in ("0", "1"):
        files = [sorted(p for p in root.rglob("*") if p.is_file()) for root in (source, target)]
        names = [
            [f.relative_to(root) for f in found if level in f.relative_to(root).parts[:1]]
            for root, found in zip((source, target), files, strict=True)
        ]
        assert names[0] == names[1]
        kept = next(name for name in names[0] if name.name in {".zarray", "zarr.json"})
        assert (target / kept).read_bytes() == (source / kept).read_bytes()


def write_zarr(path: Path, planes: Pixels, form: str) -> None:
    axes, chunk, how = ZARRS[form]
    modern = form.startswith("0.5")
    path.mkdir()
    for name, pixels in (("0", planes), ("1", np.stack([shrunk(plane) for plane in planes]))):
        stored = arranged(pixels, axes)
        metadata: dict[str, Any] = {"shape": stored.shape, **how}
        if modern:
            grid = {"name": "regular", "configuration": {"chunk_shape": chunk}}
            metadata |= {"data_type": "uint16", "chunk_grid": grid}
        else:
            sides = [min(side, n) for side, n in zip(chunk, stored.shape, strict=True)]
            metadata = {"dtype": "<u2", "dimension_separator": "/", "chunks": sides, **metadata}
        spec = {"driver": "zarr3" if modern else "zarr", "metadata": metadata, "create": True}
        kvstore = {"driver": "file", "path": str(path / name)}
        tensorstore.open({**spec, "kvstore": kvstore}).result().write(stored).result()
    kinds = {"t": "time", "c": "channel"}
    multiscale = {
        "axes": [{"name": a, "type": kinds.get(a, "space")} for a in axes],
        "datasets": [
            {
                "path": name,
                "coordinateTransformations": [{"type": "scale", "scale": [1.0] * len(axes)}],
            }
            for name in ("0", "1")
        ],
    }
    if modern:
        attributes = {"ome": {"version": "0.5", "multiscales": [multiscale]}}
        group = {"zarr_format": 3, "node_type": "group", "attributes": attributes}
        (path / "zarr.json").write_text(json.dumps(group))
    else:
        (path / ".zgroup").write_text('{"zarr_format": 2}')
        multiscale["version"] = "0.4"
        (path / ".zattrs").write_text(json.dumps({"multiscales": [multiscale]}))


def arranged(planes: Pixels, axes: str) -> Pixels:
    """Lay planes along the first axis that is not y or x, and the axes in an order."""
    outer = [axis for axis in axes if axis not in "yx"]
    laid = planes.reshape(len(planes), *[1] * (len(outer) - 1), *planes.shape[1:])
    return laid.transpose([[*outer, "y", "x"].index(axis) for axis in axes])


def read_zarr(path: Path) -> Pixels:
    driver = "zarr3" if (path / "zarr.json").exists() else "zarr"
    spec = {"driver": driver, "kvstore": {"driver": "file", "path": str(path)}}
    return np.asarray(tensorstore.open(spec).result().read().result())


class FailingWrites:
    """An array whose writes end with an error, which only who waits for them sees."""

    def __init__(self, error: Exception) -> None:
        self.error, self.waited = error, 0

    def __getitem__(self, place: Any) -> "FailingWrites":
        return self

    def write(self, pixels: Any) -> "FailingWrites":
        return self

    def result(self) -> None:
        self.waited += 1
        raise self.error


@pytest.mark.parametrize("later", [OSError("full"), RuntimeError("of the library")])
def test_the_first_error_is_told_whatever_writes_under_way_end_with(later: Exception) -> None:
    array, under_way = FailingWrites(later), UnderWay()
    for _ in range(3):
        under_way.add(array, (), np.zeros(4, np.uint8))
    with pytest.raises(KeyError, match="first"), under_way:
        raise KeyError("first")
    assert array.waited == 3
