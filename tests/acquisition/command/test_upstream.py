"""What pymmcore-plus only logs is told, counted, and with ``--strict`` ends in an error."""

import logging
import os
from pathlib import Path

import pytest
import yaml

from refocus.acquisition.command.session import run
from refocus.acquisition.command.upstream import log_where_possible
from refocus.configs.live_config import LiveConfig

AUTOFOCUS = {"autofocus_device_name": "PFS", "autofocus_motor_offset": 1.0, "axes": ["p"]}


class Unwatched:
    """A watcher that shows nothing."""

    def waiting(self, subscribers, endpoint):
        pass

    def publishing(self, endpoint):
        pass

    def begin(self, source, engine):
        pass

    def progress(self, stats):
        pass

    def cancelling(self):
        pass

    def judging(self):
        pass


@pytest.fixture
def rig(tmp_path: Path):
    """Give a maker of settings: the demo configuration without an XY stage, and a sequence."""
    adapters = pytest.importorskip("mm_test_adapters")
    demo = Path(adapters.device_adapter_path()) / "MMConfig_demo.cfg"
    gone = ("Device,XY", "Parent,XY", "Property,Core,XYStage", "Label,XY")
    lines = [x for x in demo.read_text().splitlines() if not x.startswith(gone)]
    (tmp_path / "rig.cfg").write_text("\n".join(lines))

    def settings(strict: bool = False, **sequence):
        (tmp_path / "plan.yaml").write_text(yaml.safe_dump(sequence))
        return LiveConfig(
            mm_config=tmp_path / "rig.cfg",
            sequence=tmp_path / "plan.yaml",
            engine="fake",
            strict=strict,
            report=tmp_path / "report.json",
        )

    return settings


PLACES = [{"x": 500.0 * n, "y": 0.0} for n in range(3)]


@pytest.mark.parametrize(
    ("sequence", "says", "times"),
    [
        ({"stage_positions": PLACES}, "No XY stage device found", 3),
        (
            {"stage_positions": [{"z": 0.0}, {"z": 1.0}], "autofocus_plan": AUTOFOCUS},
            "Hardware autofocus failed",
            2,
        ),
    ],
    ids=["no stage", "autofocus"],
)
def test_a_warning_is_told_once_and_counted(rig, sequence, says, times, caplog) -> None:
    with caplog.at_level(logging.WARNING, "refocus"):
        report = run(rig(**sequence), Unwatched()).report

    told = [r for r in caplog.records if says in r.getMessage() and r.name == "refocus.run"]
    assert len(told) == 1
    (counted,) = report["warnings"].values()
    assert counted == times
    strictly = run(rig(strict=True, **sequence), Unwatched())
    assert f"--strict: {times} warnings" in str(strictly.error)


def test_a_camera_that_takes_another_exposure_is_told_of(rig, caplog) -> None:
    loops = {"interval": 0.0, "loops": 2}
    channels = [{"config": "DAPI", "exposure": 20000.0}]
    with caplog.at_level(logging.WARNING, "refocus"):
        run(rig(time_plan=loops, channels=channels), Unwatched())
    told = [r for r in caplog.records if "20000 ms was asked for" in r.getMessage()]
    assert len(told) == 1


def test_a_run_without_trouble_says_nothing(rig) -> None:
    settings = rig(strict=True, time_plan={"interval": 0.0, "loops": 2})
    result = run(settings, Unwatched())
    assert result.error is None
    assert "warnings" not in result.report


@pytest.mark.parametrize("home", ["folder", "file"])
def test_a_home_that_takes_no_log_is_no_reason_not_to_start(home, tmp_path, monkeypatch):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    monkeypatch.setattr("platformdirs.user_data_dir", lambda name: str(tmp_path / home / name))
    monkeypatch.setattr(os, "environ", {})
    log_where_possible()
    assert os.environ == ({} if home == "folder" else {"PYMM_LOG_FILE": os.devnull})
    assert not list((tmp_path / "folder").iterdir())
