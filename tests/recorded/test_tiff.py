"""TIFFs as others write them: what is refocused of a page, what stays, and what is refused."""

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from refocus.configs import RefocusError
from refocus.engine.fake import FakeEngine
from refocus.recorded.process import process
from refocus.recorded.refocusing import Options
from refocus.recorded.selection import Selection
from refocus.recorded.work import Processed

Pixels = np.ndarray[Any, Any]
AS_USUAL = Options()
RED = Options(selection=Selection(channels={"red": "auto"}))
COLOURS = np.random.default_rng(0).integers(0, 255, (64, 96, 3)).astype(np.uint8)


def run(source: Path, target: Path, options: Options = AS_USUAL) -> Processed:
    return process(source, target, FakeEngine(), lambda done: None, options)


@pytest.mark.parametrize("layout", [{}, {"tile": (32, 32)}, {"rowsperstrip": 16}])
@pytest.mark.parametrize(
    ("photometric", "subsampling"),
    [("minisblack", None), ("rgb", None), ("ycbcr", (1, 1)), ("ycbcr", (2, 2))],
)
def test_jpeg_is_read_as_others_read_it(
    tmp_path: Path, photometric: str, subsampling: Any, layout: dict[str, Any]
) -> None:
    source, grey = tmp_path / "in.tif", photometric == "minisblack"
    about: dict[str, Any] = {"photometric": photometric, "subsampling": subsampling, **layout}
    pixels = COLOURS[..., 0] if grey else COLOURS
    tifffile.imwrite(source, pixels, compression="jpeg", metadata=None, **about)
    assert run(source, tmp_path / "out.tif", AS_USUAL if grey else RED).refocused == 1
    wanted = tifffile.imread(source)
    light = wanted if grey else wanted[..., 0]
    light[:] = np.invert(light)
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "out.tif"), wanted)


STACK = np.random.default_rng(1).integers(0, 4096, (16, 48, 64)).astype(np.uint16)


def write_stk(path: Path) -> None:
    """Write planes one after the other behind one page, as MetaMorph does."""
    times = np.arange(6 * len(STACK), dtype="<u4").tobytes()
    tags = [(33628, 4, 1, 8, True), (33629, 4, 0, times, True), (33630, 4, 0, times[::3], True)]
    tifffile.imwrite(path, STACK, truncate=True, metadata=None, extratags=tags)
    with tifffile.TiffFile(path, mode="r+b") as tiff:
        for code in (33629, 33630):  # rationals, of which there is one a plane
            tiff.filehandle.seek(tiff.pages[0].aspage().tags[code].offset + 2)
            tiff.filehandle.write(struct.pack("<HI", 5, len(STACK)))


def write_with(**options: Any) -> Callable[[Path], None]:
    return lambda path: tifffile.imwrite(path, STACK, **options)


SEVERAL_IN_A_PAGE: dict[str, Callable[[Path], None]] = {
    "ImageJ": write_with(imagej=True, truncate=True, metadata={"axes": "ZYX"}),
    "tifffile": write_with(truncate=True, metadata={"axes": "ZYX"}),
    "volume in strips": write_with(volumetric=True),
    "volume in tiles": write_with(volumetric=True, tile=(16, 16, 16)),
    "volume that nothing describes": write_with(volumetric=True, metadata=None),
    "MetaMorph": write_stk,
}


@pytest.mark.parametrize("form", SEVERAL_IN_A_PAGE)
def test_several_planes_in_a_page_are_refused_and_none_is_lost(tmp_path: Path, form: str) -> None:
    SEVERAL_IN_A_PAGE[form](tmp_path / "in.tif")
    with pytest.raises(RefocusError, match=r"in\.tif: has several planes in one page.*OME-TIFF"):
        run(tmp_path / "in.tif", tmp_path / "out.tif")


@pytest.mark.parametrize("form", ["all are there", "one is missing"])
def test_a_file_of_an_ome_set_holds_its_own_pages(tmp_path: Path, form: str) -> None:
    names = ["a.ome.tif", "b.ome.tif"]
    parts = "".join(
        f'<TiffData FirstC="{c}"><UUID FileName="{name}">urn:uuid:{c}</UUID></TiffData>'
        for c, name in enumerate(names)
    )
    text = (
        '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" UUID="urn:uuid:{}">'
        '<Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint16" SizeX="64" '
        'SizeY="48" SizeZ="1" SizeC="2" SizeT="1"><Channel ID="Channel:0:0" SamplesPerPixel="1"/>'
        f'<Channel ID="Channel:0:1" SamplesPerPixel="1"/>{parts}</Pixels></Image></OME>'
    )
    for c, name in enumerate(names[: 1 if form == "one is missing" else 2]):
        tifffile.imwrite(tmp_path / name, STACK[c], description=text.format(c), metadata=None)
    assert run(tmp_path / "a.ome.tif", tmp_path / "out.ome.tif").refocused == 1


@pytest.mark.parametrize("text", ["unit=µm", "unit=µm".encode("latin-1"), b"plain"])
@pytest.mark.parametrize("kind", [2, 7])
def test_texts_keep_their_bytes_whatever_the_encoding(
    tmp_path: Path, kind: int, text: str | bytes
) -> None:
    stored = text.encode() if isinstance(text, str) else text
    tags = [(code, kind, len(stored), stored, True) for code in (270, 305)]
    tifffile.imwrite(tmp_path / "in.tif", STACK[0], metadata=None, software="", extratags=tags)
    run(tmp_path / "in.tif", tmp_path / "out.tif")
    with tifffile.TiffFile(tmp_path / "out.tif") as out:
        found = []
        for code in (270, 305):
            tag = out.pages[0].aspage().tags[code]
            out.filehandle.seek(tag.valueoffset)
            found.append(out.filehandle.read(tag.valuebytecount))
    assert found[0] == stored + b"\0"
    assert found[1].startswith(stored + b"; refocus-live ")


def test_no_software_is_named_but_what_made_it(tmp_path: Path) -> None:
    options: dict[str, Any] = {"photometric": "minisblack", "metadata": None, "software": ""}
    with tifffile.TiffWriter(tmp_path / "in.tif") as writer:
        for plane in STACK[:2]:
            writer.write(plane, contiguous=False, **options)
    run(tmp_path / "in.tif", tmp_path / "out.tif")
    with tifffile.TiffFile(tmp_path / "out.tif") as out:
        first, second = (page.aspage().software for page in out.pages)
    assert first.startswith("refocus-live ")
    assert second == ""


def write_pages(path: Path, pages: list[tuple[Pixels, dict[str, Any]]]) -> list[Pixels]:
    """Write pages as they are listed, and give what they hold."""
    with tifffile.TiffWriter(path) as writer:
        for pixels, about in pages:
            kind = "rgb" if pixels.ndim == 3 else "minisblack"
            writer.write(pixels, photometric=kind, metadata=None, **about)
    return [pixels for pixels, _ in pages]


GREY_LEVEL, LEVEL = STACK[0, ::2, ::2], {"subfiletype": 1}
LABEL, MACRO = {**LEVEL, "description": "label"}, {"subfiletype": 9, "description": "macro"}
NOT_ALL_LEVELS: dict[str, tuple[list[tuple[Pixels, dict[str, Any]]], set[int]]] = {
    "a scanner's": (
        [
            *((COLOURS, {}), (COLOURS[::4, ::4], LEVEL), (COLOURS[:40, :30], LABEL)),
            *((COLOURS[::2, ::2], LEVEL), (COLOURS[::8, ::8], MACRO)),
        ],
        {1, 3},
    ),
    "a preview in colours": ([(STACK[0], {}), (COLOURS[:24, :32], LABEL)], set()),
    "of another depth": ([(STACK[0], {}), (COLOURS[:24, :32, 0], LEVEL)], set()),
    "levels of several pages": (
        [(STACK[0], {}), (STACK[1], {}), (GREY_LEVEL, LEVEL), (GREY_LEVEL + 1, LEVEL)],
        set(),
    ),
    "hanging and following": (
        [(STACK[0], {"subifds": 1}), (GREY_LEVEL, LEVEL), (COLOURS[:40, :30], LABEL)],
        {1},
    ),
}


@pytest.mark.parametrize("form", NOT_ALL_LEVELS)
def test_reduced_pages_that_are_no_levels_stay_as_they_are(tmp_path: Path, form: str) -> None:
    pages, levels = NOT_ALL_LEVELS[form]
    source, target = tmp_path / "in.tif", tmp_path / "out.tif"
    given = write_pages(source, pages)
    run(source, target, RED if given[0].ndim == 3 else AS_USUAL)
    with tifffile.TiffFile(target) as out:
        found = [p for page in out.pages for p in (page.aspage(), *(page.aspage().pages or ()))]
        assert len(found) == len(given)
        for number, (page, pixels) in enumerate(zip(found, given, strict=True)):
            about = pages[number][1]
            assert page.aspage().subfiletype == about.get("subfiletype", 0)
            assert page.aspage().description == about.get("description", "")
            if about.get("subfiletype", 0):
                assert (number not in levels) == np.array_equal(page.asarray(), pixels)


def test_a_page_of_bytes_that_is_called_a_mask_stays_as_it_is(tmp_path: Path) -> None:
    source, target = tmp_path / "in.tif", tmp_path / "out.tif"
    mask = STACK[0, ::2, ::2] // 2
    write_pages(source, [(STACK[0], {}), (mask, LEVEL)])
    with tifffile.TiffFile(source, mode="r+") as tiff:
        tiff.pages[1].aspage().tags[254].overwrite(5)  # tifffile itself lets only bits be one
    run(source, target, AS_USUAL)
    np.testing.assert_array_equal(tifffile.imread(target, key=1), mask)


def test_a_name_as_long_as_names_can_be_has_levels_too(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    name = "l" * 245 + ".tif"
    write_pages(tmp_path / "in" / name, [(STACK[0], {"subifds": 1}), (GREY_LEVEL, LEVEL)])
    assert run(tmp_path / "in", tmp_path / "out").refocused == 1
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        *(name, "refocus.csv", "refocus.json")
    }


def write_headed(path: Path, order: str, header: int) -> None:
    """Write a page behind the header that Micro-Manager writes behind that of a TIFF."""
    sides, begins = STACK[0].shape, 12 + 2 + 9 * 12 + 4
    tags = {256: sides[1], 257: sides[0], 258: 16, 259: 1, 262: 1, 273: begins, 277: 1}
    tags |= {278: sides[0], 279: STACK[0].nbytes}
    page = struct.pack(f"{order}H", len(tags))
    page += b"".join(struct.pack(f"{order}HHII", code, 4, 1, tags[code]) for code in tags)
    first = struct.pack(f"{order}2sHII", {"<": b"II", ">": b"MM"}[order], 42, 12, header)
    pixels = STACK[0].astype(f"{order}u2").tobytes()
    path.write_bytes(first + page + bytes(4) + pixels)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("header", [54773648, 483729, 0])
def test_what_micro_manager_keeps_beside_the_pages_is_said_to_stay(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, header: int, order: str
) -> None:
    source, target = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    write_headed(source / "a.tif", order, header)
    (source / "NDTiff.index").write_bytes(b"where pages lie")
    (source / "notes.txt").write_bytes(b"mine")
    run(source, target)
    np.testing.assert_array_equal(tifffile.imread(target / "a.tif"), np.invert(STACK[0]))
    names = {path.name for path in target.iterdir()}
    assert names == {"a.tif", "notes.txt", "refocus.csv", "refocus.json"}
    said = [line.getMessage() for line in caplog.records if line.levelname == "WARNING"]
    kept_back = f"{source / 'a.tif'}: summary and comments of Micro-Manager are not taken along"
    index = f"{source / 'NDTiff.index'}: not copied: pages lie elsewhere in the result"
    assert said == [*([kept_back] if header else []), index]
