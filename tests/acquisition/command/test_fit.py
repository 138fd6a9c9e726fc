"""Presets under which frames of several sizes would come are refused before the run begins."""

import subprocess
import sys
from pathlib import Path

import pytest
import useq

from refocus.acquisition.command.fit import check_channels, check_presets
from refocus.configs import RefocusError

BINNED = [("Binning", "1"), ("Binning", "2")]
TYPED = [("PixelType", "8bit"), ("PixelType", "16bit")]


@pytest.mark.parametrize("settings", [BINNED, TYPED])
@pytest.mark.parametrize("nested", [False, True])
def test_channels_that_do_not_fit_one_file_are_refused(core, settings, nested):
    for channel, (name, value) in zip(["DAPI", "FITC"], settings, strict=True):
        core.defineConfig("Channel", channel, "Camera", name, value)
    sequence = useq.MDASequence(channels=["DAPI", "FITC"])
    if nested:
        sub = useq.MDASequence(channels=["FITC"])
        sequence = useq.MDASequence(channels=["DAPI"], stage_positions=[{"sequence": sub}])
    (name, one), (_, other) = settings
    before = core.getProperty("Camera", name)
    with pytest.raises(
        RefocusError, match=rf"DAPI sets {name} .* {one}, and channel FITC .* {other}"
    ):
        check_presets(core, sequence, saved=True)
    core.setProperty("Camera", name, before)
    check_presets(core, sequence, saved=False)  # without a file there is nothing to fit
    assert core.getProperty("Camera", name) == before


def test_a_binning_that_all_channels_share_is_set_before_the_file_is_laid_out(core):
    core.defineConfig("Channel", "FITC", "Camera", "Binning", "2")
    check_presets(core, useq.MDASequence(channels=["FITC"]), saved=True)
    assert core.getImageWidth() == 256


@pytest.mark.parametrize(
    ("sequence", "named", "says"),
    [
        ({"channels": ["DAPI", "FITC"]}, ["DAPI"], ""),
        ({"channels": ["DAPI", "FITC"]}, ["DAPI", "Dapi"], "--channel Dapi: .* has DAPI, FITC"),
        ({}, ["DAPI"], "--channel DAPI: .* has none; leave --channel out"),
        ({"stage_positions": [{"sequence": {"channels": ["BF"]}}]}, ["BF"], ""),
        ({"stage_positions": [{"sequence": {"channels": ["BF"]}}]}, ["Cy5"], "has BF"),
    ],
)
def test_a_channel_that_the_sequence_lacks_is_refused_with_those_it_has(sequence, named, says):
    sequence = useq.MDASequence(**sequence)
    if not says:
        check_channels(sequence, named)
        return
    with pytest.raises(RefocusError, match=says):
        check_channels(sequence, named)


@pytest.mark.parametrize("saved", [False, True])
@pytest.mark.parametrize("pixel_type", ["32bitRGB", "64bitRGB", "32bit"])
def test_a_channel_that_makes_the_camera_one_that_nobody_can_refocus(core, saved, pixel_type):
    core.defineConfig("Channel", "FITC", "Camera", "PixelType", pixel_type)
    sequence = useq.MDASequence(channels=["DAPI", "FITC"])
    before = core.getProperty("Camera", "PixelType")
    with pytest.raises(RefocusError, match=r"channel FITC: camera Camera: gives .* 8 or 16 bits"):
        check_presets(core, sequence, saved=saved)
    assert saved or core.getProperty("Camera", "PixelType") == before


@pytest.mark.parametrize("save", [(), ("--save", "out")])
def test_a_run_with_such_a_channel_ends_before_its_first_frame_and_lets_go(tmp_path, save):
    adapters = pytest.importorskip("mm_test_adapters")
    demo = (Path(adapters.device_adapter_path()) / "MMConfig_demo.cfg").read_text()
    (tmp_path / "rig.cfg").write_text(demo + "\nConfigGroup,Channel,BF,Camera,PixelType,32bitRGB\n")
    (tmp_path / "plan.yaml").write_text("channels: [DAPI, BF]\n")
    command = [
        Path(sys.executable).with_name("refocus-live"),
        "run",
        "--mm-config",
        "rig.cfg",
        "--sequence",
        "plan.yaml",
    ]
    command += ["--engine", "fake", *save]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    told = " ".join(done.stderr.split())
    assert "channel BF: camera Camera: gives RGB" in told
    assert "not released" not in told
    assert done.returncode == 2
    assert not (tmp_path / "out" / "raw.ome.zarr").exists()
