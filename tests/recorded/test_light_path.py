"""What files state of the light path, and what is told instead, on its way to the engine."""

import json
from pathlib import Path

import numpy as np
import ome_writers
import pytest
import tifffile
from PIL import Image
from typer.testing import CliRunner

from refocus.acquisition.command.cli import app
from refocus.configs import RefocusError
from refocus.configs.light_path import UNKNOWN, KnownOptics, LightPath, stated
from refocus.engine.fake import FakeEngine
from refocus.engine.protocol import Frame
from refocus.engine.refocuser import Refocuser
from refocus.recorded.process import process
from refocus.recorded.refocusing import Options
from refocus.recorded.selection import Selection

from ..conftest import Listening

PLANES = np.zeros((2, 32, 48), np.uint16)
XML = """<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06">
<Instrument ID="Instrument:0"><Objective ID="Objective:0" LensNA="0.75" Immersion="Air"/>
</Instrument><Image ID="Image:0"><ObjectiveSettings ID="Objective:0"/>
<Pixels ID="Pixels:0" DimensionOrder="XYCZT" Type="uint16" SizeX="48" SizeY="32" SizeZ="1"
SizeC="2" SizeT="1" PhysicalSizeX="0.3" PhysicalSizeY="0.3">
<Channel ID="Channel:0:0" Name="DAPI" EmissionWavelength="461"/>
<Channel ID="Channel:0:1" Name="FITC" EmissionWavelength="520"/><TiffData/></Pixels></Image></OME>
"""
STATED = [LightPath(0.3, 0.75, 1.0, 0.461), LightPath(0.3, 0.75, 1.0, 0.52)]


def write_tiff(path: Path) -> Path:
    tifffile.imwrite(
        path, PLANES, photometric="minisblack", description=XML.encode(), metadata=None
    )
    return path


def write_zarr(path: Path, *, xml: bool) -> Path:
    sides = [
        ome_writers.Dimension(name=n, count=count, type="space", scale=0.3, unit="micrometer")
        for n, count in (("y", 32), ("x", 48))
    ]
    channels = ome_writers.Dimension(name="c", type="channel", coords=["DAPI", "FITC"])
    settings = ome_writers.AcquisitionSettings(
        root_path=str(path), dimensions=(channels, *sides), dtype="uint16"
    )
    with ome_writers.create_stream(settings) as stream:
        for plane in PLANES:
            stream.append(plane)
    if xml:
        (path / "OME").mkdir(exist_ok=True)
        (path / "OME" / "METADATA.ome.xml").write_text(XML, encoding="utf-8")
    return path


def heard(source: Path, target: Path, optics: KnownOptics) -> list[LightPath]:
    engine = Listening()
    process(
        source,
        target,
        engine,
        on_progress=lambda done: None,
        options=Options(optics=optics),
        keep_going=True,
    )
    return engine.heard


TOLD = KnownOptics.model_validate(
    {"na": 0.5, "pixel_size_um": 0.2, "channels": {"FITC": {"emission_um": 0.53}}}
)
WON = [LightPath(0.2, 0.5, 1.0, 0.461), LightPath(0.2, 0.5, 1.0, 0.53)]


@pytest.mark.parametrize(
    ("told", "expected"), [(KnownOptics(), STATED), (TOLD, WON)], ids=["stated", "told"]
)
def test_what_is_told_wins_over_what_a_file_states(
    tmp_path: Path, told: KnownOptics, expected: list[LightPath]
) -> None:
    sources = {
        tmp_path / "out.ome.tif": write_tiff(tmp_path / "in.ome.tif"),
        tmp_path / "out.zarr": write_zarr(tmp_path / "in.zarr", xml=True),
    }
    for target, source in sources.items():
        found = heard(source, target, told)
        assert [stated(p) for p in found] == [pytest.approx(stated(p)) for p in expected]


@pytest.mark.parametrize("workers", [1, 2])
def test_a_model_that_ships_for_what_a_folder_states_is_taken(tmp_path: Path, workers: int) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "a.tif").touch()  # cannot be read, and is left out
    write_tiff(folder / "b.tif")
    options = ["--json", "--workers", str(workers), "--keep-going"]
    done = CliRunner().invoke(app, ["process", str(folder), str(tmp_path / "out"), *options])
    assert json.loads(done.stdout)["engine"]["model"] == "any-objective"


def test_an_ome_zarr_without_ome_xml_states_its_pixels_alone(tmp_path: Path) -> None:
    source = write_zarr(tmp_path / "in.zarr", xml=False)
    found = heard(source, tmp_path / "out.zarr", KnownOptics())
    assert [stated(p) for p in found] == [pytest.approx(stated(LightPath(0.3)))] * 2


def test_where_one_file_of_a_folder_states_no_pixel_size_it_is_left_out(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    write_tiff(folder / "a.ome.tif")
    Image.fromarray(PLANES[0]).save(folder / "b.png")
    assert heard(folder, tmp_path / "told", KnownOptics()) == [*STATED, UNKNOWN]
    done = process(
        folder,
        tmp_path / "out",
        Listening(),
        on_progress=lambda d: None,
        options=Options(optics=KnownOptics(na=0.5)),
        keep_going=True,
    )
    assert (done.refocused, done.failed) == (2, 1)
    with pytest.raises(RefocusError, match=r"b.png: na 0.5 with pixel size 0: "):
        process(
            folder / "b.png",
            tmp_path / "b.png",
            Listening(),
            on_progress=lambda d: None,
            options=Options(optics=KnownOptics(na=0.5)),
        )
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in", "out", "told"]


class Asked(FakeEngine):
    """An engine whose planes are asked how they are blurred."""

    sight = object()  # type: ignore[assignment]


def test_planes_of_a_stack_tell_where_they_lie(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = []

    def believe(self: Refocuser, pixels: Frame, *args: object) -> LightPath:
        told.append(args[-1])
        return UNKNOWN

    monkeypatch.setattr(Refocuser, "believe", believe)
    monkeypatch.setattr(Refocuser, "_believe", lambda *args: args[4])
    planes = np.zeros((3, 32, 48), np.uint16)
    stack = {"axes": "ZYX", "PhysicalSizeZ": 2.0, "PhysicalSizeZUnit": "µm"}
    tifffile.imwrite(tmp_path / "z.ome.tif", planes, ome=True, metadata=stack)
    tifffile.imwrite(tmp_path / "t.ome.tif", planes, ome=True, metadata={"axes": "TYX"})
    chosen = Options(selection=Selection(refocus_z=True))
    for name in ("z", "t"):
        source, target = tmp_path / f"{name}.ome.tif", tmp_path / f"{name}-out.ome.tif"
        process(source, target, Asked(), lambda done: None, chosen)
    assert told == [0.0, 2.0, 4.0, None, None, None]


def test_planes_of_one_place_name_one_position(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, named = tmp_path / "in", []
    folder.mkdir()
    write_tiff(folder / "a.ome.tif")
    Image.fromarray(PLANES[0]).save(folder / "b.png")
    submit = Refocuser.submit

    def note(self: Refocuser, pixels: Frame, *args: object) -> object:
        named.append(args[-1])
        return submit(self, pixels, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(Refocuser, "submit", note)
    heard(folder, tmp_path / "out", KnownOptics())
    assert named == ["a.ome.tif 0", "a.ome.tif 0", "b.png"]
