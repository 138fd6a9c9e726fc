"""What is told of the light path of an acquisition, on its way to the engine and to the sinks."""

import logging
from pathlib import Path

import numpy as np
import pytest
import tifffile
import useq
from PIL import Image

from refocus.acquisition import attach
from refocus.acquisition.command.cli import app
from refocus.acquisition.command.sources import open_source
from refocus.acquisition.microscopes.simulated import SimulatedMicroscope
from refocus.configs import RefocusError
from refocus.configs.command import run_command
from refocus.configs.light_path import LightPath, stated
from refocus.configs.live_config import load_live_config
from refocus.engine.fake import FakeEngine
from refocus.engine.protocol import Frame
from refocus.engine.refocuser import Refocuser

from ..conftest import Keep, Listening, loops

TOLD = {"na": 0.75, "channels": {"DAPI": {"emission_um": 0.46}}}
BOTH = loops(1, channels=["DAPI", "FITC"])
OF_DAPI, OF_FITC = LightPath(0.656, 0.75, 0.0, 0.46), LightPath(0.656, 0.75)


def test_each_channel_has_its_own(microscope: SimulatedMicroscope) -> None:
    engine = Listening()
    with attach(microscope.core, engine=engine, optics=TOLD, queue=9):
        microscope.core.mda.run(BOTH)
    assert engine.heard == [OF_DAPI, OF_FITC]


def test_a_pixel_size_that_is_told_is_that_of_every_frame(
    microscope: SimulatedMicroscope, keep: Keep, caplog: pytest.LogCaptureFixture
) -> None:
    engine = Listening()
    with (
        caplog.at_level(logging.WARNING),
        attach(
            microscope.core, engine=engine, optics={"pixel_size_um": 0.3}, sinks=[keep], queue=9
        ),
    ):
        microscope.core.mda.run(BOTH)
        microscope.core.mda.run(BOTH)
    assert set(engine.heard) == {LightPath(0.3)}
    assert {result.captured.pixel_size_um for result in keep.results} == {0.3}
    assert {run.camera["pixel_size_um"] for run in keep.runs} == {0.3}
    says = "pixel_size_um: 0.3 as told, though the camera or the file says 0.656"
    assert [message for message in caplog.messages if "as told" in message] == [says]


@pytest.mark.parametrize(
    ("optics", "model"),
    [
        ({}, "refocus-compact"),
        ({"na": 0.3}, "any-objective"),
        ({"pixel_size_um": 0.325}, "refocus-compact"),
        ({"channels": {"DAPI": {"na": 0.3}}}, "any-objective"),
    ],
)
def test_a_model_that_ships_for_them_is_taken(
    microscope: SimulatedMicroscope, optics: dict[str, float], model: str
) -> None:
    with attach(microscope.core, optics=optics) as live:
        card = live.engine.info.card
    assert card is not None
    assert card.name == model


def test_an_aperture_is_refused_where_the_core_knows_no_pixel_size(
    microscope: SimulatedMicroscope,
) -> None:
    core = microscope.core
    core.deletePixelSizeConfig(core.getCurrentPixelSizeConfig())
    with pytest.raises(RefocusError, match=r"^na 0.75 with pixel size 0: .*--pixel-size-um, too"):
        attach(core, engine=FakeEngine(), optics=TOLD)
    assert len(core.mda.events.frameReady) == 0
    engine = Listening()
    with attach(core, engine=engine, optics={**TOLD, "pixel_size_um": 0.656}, queue=9):
        core.mda.run(BOTH)
    assert engine.heard == [OF_DAPI, OF_FITC]


def test_planes_of_a_stack_tell_where_the_stage_was(
    microscope: SimulatedMicroscope, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = []
    submit = Refocuser.submit

    def note(self: Refocuser, pixels: Frame, *args: object) -> object:
        told.append(args[-1])
        return submit(self, pixels, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(Refocuser, "submit", note)
    with attach(microscope.core, engine=FakeEngine(), queue=9, refocus_z=True):
        microscope.core.mda.run(loops(1, z_plan={"range": 4, "step": 2}))
        microscope.core.mda.run(loops(2))
    assert told == [-2.0, 0.0, 2.0, None, None]


def test_frames_of_one_place_name_one_position(microscope: SimulatedMicroscope, keep: Keep) -> None:
    grid = {"rows": 1, "columns": 2, "fov_width": 10, "fov_height": 10}
    sequences = [
        loops(2),
        loops(2, stage_positions=[(0, 0, 0), (9, 0, 0)], axis_order="tpc"),
        useq.MDASequence(stage_positions=[(0, 0, 0)], grid_plan=grid),
    ]
    for sequence in sequences:
        with attach(microscope.core, engine=FakeEngine(), sinks=[keep], queue=9):
            microscope.core.mda.run(sequence)
    named = [result.captured.position for result in keep.results]
    assert named == ["", "", "p0", "p1", "p0", "p1", "p0 g0", "p0 g1"]


@pytest.mark.parametrize(
    ("options", "known"),
    [
        ({}, LightPath(0.3, 0.75, 1.0, 0.52)),
        ({"na": 0.5, "pixel_size_um": 0.2}, LightPath(0.2, 0.5, 1.0, 0.52)),
    ],
)
def test_a_replay_takes_what_its_first_file_states_that_can(
    tmp_path: Path, options: dict[str, float], known: LightPath
) -> None:
    xml = (
        '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Instrument ID="I:0">'
        '<Objective ID="O:0" LensNA="0.75" Immersion="Air"/></Instrument><Image ID="Image:0">'
        '<ObjectiveSettings ID="O:0"/><Pixels ID="P:0" DimensionOrder="XYCZT" Type="uint16" '
        'SizeX="48" SizeY="32" SizeZ="1" SizeC="1" SizeT="1" PhysicalSizeX="0.3" '
        'PhysicalSizeY="0.3"><Channel ID="C:0" EmissionWavelength="520"/><TiffData/></Pixels>'
        "</Image></OME>"
    )
    plane = np.zeros((32, 48), np.uint16)
    Image.fromarray(plane).save(tmp_path / "a.png")  # which can state nothing
    tifffile.imwrite(tmp_path / "b.ome.tif", plane, description=xml.encode(), metadata=None)
    config = load_live_config(None, {"replay": tmp_path, "optics": options})
    engine = Listening()
    with (
        open_source(config) as source,
        attach(source.core, engine=engine, optics=source.optics, throttle=True),
    ):
        source.core.mda.run(source.sequence)
    assert [stated(path) for path in engine.heard] == [pytest.approx(stated(known))] * 2


@pytest.mark.parametrize(
    ("typed", "says"),
    [
        ("run --replay {} --na 0.5", "na 0.5 with pixel size 0: an aperture is told, and nothing"),
        ("process {} {}/out --na 0.5", "a.png: na 0.5 with pixel size 0: an aperture is told"),
        ("process {} {}/out --na 1.3 --immersion air", "na 1.3 with immersion index 1: an aper"),
        ("process {} {}/out --pixel-size-um 0", "--pixel-size-um: 0 µm is no size of a pixel"),
    ],
)
def test_files_that_state_no_pixel_size(
    typed: str, says: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    Image.fromarray(np.zeros((32, 48), np.uint16)).save(folder / "a.png")
    parts = [part.replace("{}/out", f"{tmp_path}/out") for part in typed.split()]
    arguments = [part.replace("{}", str(folder)) for part in parts]
    assert run_command(app, "", arguments=[*arguments, "--engine", "fake"]) == 2
    out, err = capfd.readouterr()
    assert (out, says in err) == ("", True), err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["images"]


@pytest.mark.parametrize(
    ("channels", "warned"),
    [(["DAPI"], False), (["DAPI", "FITC"], False), (["FITC"], True)],
)
def test_optics_of_a_channel_that_is_none(
    channels: list[str], warned: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sequence = useq.MDASequence(channels=[{"config": channel} for channel in channels])
    (tmp_path / "s.yaml").write_text(sequence.yaml(exclude_unset=True))
    (tmp_path / "run.yaml").write_text(
        "demo: true\nsize: 64\nengine: fake\nsequence: s.yaml\n"
        "optics: {channels: {DAPI: {emission_um: 0.46}}}\n"
    )
    run_command(app, "", arguments=["run", "--config", str(tmp_path / "run.yaml")])
    assert ("optics: channels: no channel DAPI in this" in caplog.text) == warned
