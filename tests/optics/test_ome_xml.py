"""The light path that OME-XML states, in a TIFF and beside an OME-Zarr."""

from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import tifffile

from refocus.configs.light_path import UNKNOWN, LightPath, stated
from refocus.optics.ome_xml import light_paths, zarr_light_paths
from refocus.optics.tiff_metadata import TiffNotes, file_light_path

SCHEMA = 'xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"'
LENS = '<Instrument ID="Instrument:0"><Objective ID="Objective:0" {}/></Instrument>'
USED = '<ObjectiveSettings ID="Objective:0"/>'
SIZE = 'PhysicalSizeX="0.1" PhysicalSizeY="0.1"'
PIXELS = (
    '<Pixels ID="Pixels:0" DimensionOrder="XYCZT" Type="uint16" SizeX="48" SizeY="32" SizeZ="1" '
    'SizeT="1" SizeC="{}" {}>{}<TiffData/></Pixels>'
)


def document(
    lens: str = "", settings: str = "", size: str = "", channels: tuple[str, ...] = ()
) -> str:
    listed = "".join(
        f'<Channel ID="Channel:0:{n}" SamplesPerPixel="1" {said}/>'
        for n, said in enumerate(channels)
    )
    instrument = LENS.format(lens) if lens else ""
    pixels = PIXELS.format(max(1, len(channels)), size, listed)
    image = f'<Image ID="Image:0">{settings}{pixels}</Image>'
    return f"<OME {SCHEMA}>{instrument}{image}</OME>"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (document(), UNKNOWN),
        (document('LensNA="1.4" Immersion="Oil"', USED, SIZE), LightPath(0.1, 1.4, 1.515)),
        (document('LensNA="1.2" Immersion="WaterDipping"', USED), LightPath(0.0, 1.2, 1.333)),
        (document('LensNA="0.5" Immersion="Other"', USED), LightPath(0.0, 0.5)),
        (
            document(
                'LensNA="1.4" Immersion="Oil"', USED.replace("/>", ' RefractiveIndex="1.518"/>')
            ),
            LightPath(0.0, 1.4, 1.518),
        ),
        (document('LensNA="0.5"', ""), LightPath(0.0, 0.5)),  # the only one
        (document('LensNA="0.5"', USED.replace(":0", ":7")), UNKNOWN),  # of another
        (document('LensNA="20"', USED), UNKNOWN),
        (document('LensNA="wide" Immersion=""', USED), UNKNOWN),
        (document('LensNA="NaN"', USED.replace("/>", ' RefractiveIndex="INF"/>')), UNKNOWN),
        (document(channels=('EmissionWavelength="520"',)), LightPath(emission_um=0.52)),
        (
            document(channels=('EmissionWavelength="0.52" EmissionWavelengthUnit="µm"',)),
            LightPath(emission_um=0.52),
        ),
        (document(channels=('EmissionWavelength="0.52"',)), UNKNOWN),  # half a nanometre
        (
            document(channels=('EmissionWavelength="5" EmissionWavelengthUnit="pixel"',)),
            UNKNOWN,
        ),
    ],
)
def test_an_image(text: str, expected: LightPath) -> None:
    ((found,),) = light_paths(ElementTree.fromstring(text))
    assert stated(found) == pytest.approx(stated(expected))


TWO = ('EmissionWavelength="461"', 'EmissionWavelength="520"')


def test_the_pages_of_a_tiff(tmp_path: Path) -> None:
    path = tmp_path / "a.ome.tif"
    text = document('LensNA="0.75" Immersion="Air"', USED, SIZE, TWO)
    planes = np.zeros((2, 32, 48), np.uint16)
    tifffile.imwrite(
        path, planes, photometric="minisblack", description=text.encode(), metadata=None
    )
    with tifffile.TiffFile(path) as opened:
        notes = TiffNotes(opened)
        found = [notes.light_path(page) for page in range(2)]
    assert [stated(path) for path in found] == [
        pytest.approx(stated(LightPath(0.1, 0.75, 1.0, um))) for um in (0.461, 0.52)
    ]
    assert file_light_path(path) == found[0]


STACK = (
    f'<OME {SCHEMA}><Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="{{}}" Type="uint16" '
    'SizeX="48" SizeY="32" SizeZ="2" SizeT="1" SizeC="1" PhysicalSizeZ="1.5">'
    '<TiffData IFD="0" PlaneCount="2"><UUID FileName="{}">urn:uuid:1</UUID></TiffData>{}'
    "</Pixels></Image></OME>"
)


OF_ANOTHER = '<TiffData IFD="0"><UUID FileName="c.ome.tif">urn:uuid:2</UUID></TiffData>'


HERE_TOO = '<TiffData IFD="1" FirstZ="1"/>'


def write_stack(path: Path, order: str, named: str, more: str = "") -> Path:
    text, planes = STACK.format(order, named, more), np.zeros((2, 32, 48), np.uint16)
    stated: dict[str, Any] = {"photometric": "minisblack", "metadata": None}
    tifffile.imwrite(path, planes, description=text.encode(), **stated)
    return path


@pytest.mark.parametrize(
    ("named", "more", "expected"),
    [
        ("a.ome.tif", "", [0.0, 1.5]),
        ("before.ome.tif", "", [0.0, 1.5]),  # renamed, and it names no other
        ("a.ome.tif", OF_ANOTHER, [0.0, 1.5]),
        ("before.ome.tif", OF_ANOTHER, [None, None]),  # of a set: nobody can tell which one it was
        ("b.ome.tif", HERE_TOO, [None, 1.5]),  # the first page is in b, the second in this one
    ],
)
def test_planes_lie_in_a_stack_where_the_file_says_so(
    tmp_path: Path, named: str, more: str, expected: list[float | None]
) -> None:
    with tifffile.TiffFile(write_stack(tmp_path / "a.ome.tif", "XYZCT", named, more)) as opened:
        notes = TiffNotes(opened)
        assert [notes.z_um(page) for page in range(2)] == expected
        assert notes.in_stack(1)


def test_an_order_that_is_none_says_nothing_of_the_light_path(tmp_path: Path) -> None:
    path = write_stack(tmp_path / "a.ome.tif", "XYCTT", "a.ome.tif")
    assert file_light_path(path) == UNKNOWN
    with tifffile.TiffFile(path) as opened, pytest.raises(ValueError, match="'XYCTT' as the order"):
        TiffNotes(opened)


def test_beside_an_ome_zarr(tmp_path: Path) -> None:
    assert zarr_light_paths(tmp_path) == []
    (tmp_path / "OME").mkdir()
    file = tmp_path / "OME" / "METADATA.ome.xml"
    file.write_text(document('LensNA="0.75"', USED, SIZE, TWO), encoding="utf-8")
    ((first, second),) = zarr_light_paths(tmp_path)
    assert (first.na, first.emission_um, second.emission_um) == pytest.approx((0.75, 0.461, 0.52))
    file.write_text("<OME>")
    assert zarr_light_paths(tmp_path) == []


def test_files_that_state_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.tif").write_text("no TIFF")
    tifffile.imwrite(tmp_path / "b.tif", np.zeros((32, 48), np.uint16))
    for name in ("a.tif", "b.tif", "c.png"):
        assert file_light_path(tmp_path / name) == UNKNOWN
