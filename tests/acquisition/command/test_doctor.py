"""What the doctor finds where all is well, and where something is missing or broken."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from refocus.acquisition.command import cli
from refocus.acquisition.command.doctor import examine
from refocus.configs.command import run_command
from refocus.engine import EngineError

ORDER = [
    "versions",
    "gpu",
    "openvino",
    "any-objective",
    "tensorrt",
    "tensorrt-rtx",
    "torch",
    "micro-manager",
    "view",
    "napari",
    "train",
    "self-test",
]


def test_what_every_run_needs_is_in_order_here() -> None:
    findings = {finding.name: finding for finding in examine()}
    assert list(findings) == ORDER
    assert [one for one in findings.values() if one.state == "bad"] == []
    assert all(one.mend or one.state == "good" or "GPU" in one.said for one in findings.values())
    assert findings["openvino"].said.startswith("opens refocus-compact ")
    told = re.search(r"([\d.]+) → ([\d.]+) dB by ", findings["self-test"].said)
    assert told
    assert float(told[2]) > float(told[1]) + 1


def no_adapters(patch: pytest.MonkeyPatch, folder: Path) -> None:
    patch.setattr("pymmcore_plus.find_micromanager", lambda: None)


def no_demo_camera(patch: pytest.MonkeyPatch, folder: Path) -> None:
    (folder / "MMConfig_demo.cfg").write_text("Device,Camera,DemoCamera,DCam\n")
    patch.setenv("MICROMANAGER_PATH", str(folder))


def no_engine(patch: pytest.MonkeyPatch, folder: Path) -> None:
    def refuse(name: object, **_: object) -> None:
        raise EngineError("OpenVINO cannot be imported; install it: pip install openvino")

    for module in ("refocus.engine", "refocus.acquisition.hook"):
        patch.setattr(f"{module}.open_engine", refuse)


def damaged_model(patch: pytest.MonkeyPatch, folder: Path) -> None:
    (folder / "bad.onnx").write_bytes(b"no model")
    patch.setattr("refocus.engine.open.default_model", lambda *_: folder / "bad.onnx")


def no_page(patch: pytest.MonkeyPatch, folder: Path) -> None:
    patch.setattr("refocus.acquisition.command.doctor.find_spec", lambda name: None)


@pytest.mark.parametrize(
    ("harm", "name", "state", "says"),
    [
        (no_adapters, "micro-manager", "absent", "mmcore install"),
        (no_demo_camera, "micro-manager", "absent", "DemoCamera.*mmcore install; .*API version"),
        (no_engine, "openvino", "bad", "pip install openvino"),
        (no_engine, "self-test", "bad", "pip install openvino"),
        (damaged_model, "openvino", "bad", "bad.onnx: not a readable ONNX model.*export it again"),
        (no_page, "view", "absent", r"no starlette, uvicorn, websockets.*\[view\]"),
    ],
)
def test_what_is_missing_or_broken_is_one_line_with_its_mend(  # noqa: PLR0917
    harm: Any, name: str, state: str, says: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    harm(monkeypatch, tmp_path)
    finding = next(finding for finding in examine() if finding.name == name)
    line = f"{finding.said} {finding.mend}"
    assert finding.state == state
    assert re.search(says, line)
    assert "\n" not in line


def test_the_command_ends_with_a_status_and_json_is_all_there_is(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    damaged_model(monkeypatch, tmp_path)
    assert run_command(cli.app, "", arguments=["doctor", "--json"]) == 1
    out, err = capfd.readouterr()
    told = json.loads(out)
    assert [one["name"] for one in told["findings"]] == ORDER
    assert not told["good"]
    assert "not in order: openvino, self-test;" in err
