"""Microscopes that ``refocus-live run`` refuses before the first frame, and plans it counts."""

from pathlib import Path

import pytest
import useq

from refocus.acquisition.command.sources import open_source
from refocus.acquisition.pipeline.plan import count_frames
from refocus.configs import RefocusError
from refocus.configs.live_config import LiveConfig


@pytest.mark.parametrize(
    ("pixel_type", "says"),
    [("32bitRGB", "gives RGB"), ("32bit", "uint32"), ("64bitRGB", "gives RGB")],
)
def test_a_camera_whose_frames_nobody_can_refocus(tmp_path: Path, pixel_type, says) -> None:
    adapters = pytest.importorskip("mm_test_adapters")
    demo = (Path(adapters.device_adapter_path()) / "MMConfig_demo.cfg").read_text()
    lines = [x for x in demo.splitlines() if not x.startswith("ConfigGroup,System,Startup")]
    lines.append(f"ConfigGroup,System,Startup,Camera,PixelType,{pixel_type}")
    (tmp_path / "rig.cfg").write_text("\n".join(lines))
    with (
        pytest.raises(RefocusError, match=rf"camera Camera: .*{says}.*8 or 16 bits"),
        open_source(LiveConfig(mm_config=tmp_path / "rig.cfg")),
    ):
        pass


def test_counting_a_plan_changes_nothing_of_it() -> None:
    autofocus = {"autofocus_device_name": "PFS", "autofocus_motor_offset": 1, "axes": ("p",)}
    plan = useq.MDASequence(
        stage_positions=[(0, 0, 0), (1, 0, 0)], channels=["DAPI"], autofocus_plan=autofocus
    )
    assert count_frames(plan) == 2
    assert [event.action.type for event in plan].count("hardware_autofocus") == 2
