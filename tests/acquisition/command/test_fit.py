"""Raw frames keep their places, and one that does not fit the file is kept and told of."""

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


def test_channels_with_different_binning_are_refused(core):
    core.defineConfig("Channel", "DAPI", "Camera", "Binning", "1")
    core.defineConfig("Channel", "FITC", "Camera", "Binning", "2")
    sequence = useq.MDASequence(channels=["DAPI", "FITC"])
    with pytest.raises(RefocusError, match=r"DAPI sets Binning .* to 1, and channel FITC to 2"):
        check_presets(core, sequence)


def test_a_binning_that_all_channels_share_is_set_before_the_file_is_laid_out(core):
    core.defineConfig("Channel", "FITC", "Camera", "Binning", "2")
    check_presets(core, useq.MDASequence(channels=["FITC"]))
    assert core.getImageWidth() == 256
