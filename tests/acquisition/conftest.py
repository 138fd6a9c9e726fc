"""What tests of an acquisition share: Micro-Manager's own demo camera."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pymmcore_plus import CMMCorePlus


@pytest.fixture
def core() -> Iterator["CMMCorePlus"]:
    """Give the C++ DemoCamera, 512² and 8 bits, triggered by software."""
    pytest.importorskip("mm_test_adapters")
    import pymmcore
    from pymmcore_plus import CMMCorePlus

    core = CMMCorePlus()
    core.loadSystemConfiguration("MMConfig_demo.cfg")
    core.setExposure(1)
    core.mda.engine.use_hardware_sequencing = False
    yield core
    pymmcore.CMMCore.registerCallback(core, None)  # or the C++ core may abort at exit
    core.unloadAllDevices()
