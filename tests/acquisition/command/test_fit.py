"""Presets under which frames of several sizes would come are refused before the run begins."""

import pymmcore
import pytest
import useq
from pymmcore_plus import CMMCorePlus

from refocus.acquisition.command.fit import check_presets
from refocus.configs import RefocusError


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
