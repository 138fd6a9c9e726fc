"""Raw frames keep their places, and one that does not fit the file is kept and told of."""

import subprocess
from pathlib import Path

import numpy as np
import pymmcore
import pytest
import tifffile
import useq
from pymmcore_plus import CMMCorePlus

from refocus.acquisition.command.fit import check_presets, guarded
from refocus.configs import RefocusError

from ...conftest import loops, zarr_arrays


@pytest.fixture
def core():
    pytest.importorskip("mm_test_adapters")
    core = CMMCorePlus()
    core.loadSystemConfiguration("MMConfig_demo.cfg")
    core.setExposure(1)
    core.mda.engine.use_hardware_sequencing = False
    yield core
    pymmcore.CMMCore.registerCallback(core, None)  # or the C++ core may abort at exit
    core.unloadAllDevices()


def test_a_frame_that_the_camera_fails_to_give_leaves_its_place_empty(core, tmp_path, monkeypatch):
    raw, calls, came = tmp_path / "raw.ome.zarr", [], []
    snap = core.snapImage

    def flaky():
        calls.append(None)
        if len(calls) in (2, 4):
            raise RuntimeError("timeout waiting for frame")
        snap()

    monkeypatch.setattr(core, "snapImage", flaky)
    core.mda.events.frameReady.connect(lambda pixels, event: came.append(event.index["t"]))
    with guarded(core, raw) as guard:
        core.mda.run(loops(6), output=raw)
    (saved,) = zarr_arrays(raw).values()
    assert np.flatnonzero(saved.any(axis=(1, 2))).tolist() == came == [0, 2, 4, 5]
    assert guard.error is None


def test_a_frame_of_another_size_is_kept_told_of_and_the_last(core, tmp_path):
    raw, came = tmp_path / "raw.ome.zarr", []

    def crop(pixels, event):
        came.append(event.index["t"])
        if len(came) == 3:
            core.setROI(0, 0, 128, 64)

    core.mda.events.frameReady.connect(crop)
    with guarded(core, raw) as guard:
        core.mda.run(loops(20, channels=["DAPI"]), output=raw)
    (kept,) = guard.aside.iterdir()
    assert tifffile.imread(kept).shape == (64, 128)
    said = str(guard.error)
    assert "t=3 c=0 of channel DAPI is 128×64" in said
    assert "laid out for 512×512" in said
    assert str(guard.aside) in said
    (saved,) = zarr_arrays(raw).values()
    assert np.flatnonzero(saved.reshape(len(saved), -1).any(axis=1)).tolist() == came == [0, 1, 2]


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
    command = ["refocus-live", "run", "--mm-config", "rig.cfg", "--sequence", "plan.yaml"]
    command += ["--engine", "fake", *save]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    told = " ".join(done.stderr.split())
    assert "channel BF: camera Camera: gives RGB" in told
    assert "not released" not in told
    assert done.returncode == 2
    assert not (tmp_path / "out" / "raw.ome.zarr").exists()
