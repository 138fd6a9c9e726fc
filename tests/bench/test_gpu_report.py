"""The report of a GPU machine, tried with the engines of the CPU."""

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import numpy as np
import onnx
import pytest

from refocus.bench.gpu_rates import Rates, work_of
from refocus.bench.live_rows import FEWEST
from refocus.engine import Engine
from refocus.engine.nvidia import find_gpu
from refocus.engine.openvino import OpenVinoEngine
from refocus.engine.protocol import log
from refocus.engine.shipped import default_model

SCRIPT = Path(__file__).parents[2] / "bench" / "gpu_report.py"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("gpu_report", SCRIPT)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_one_line_without_a_gpu(script: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    if find_gpu() is not None:
        pytest.skip("this machine has an NVIDIA GPU")
    assert script.main([]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1
    assert "no NVIDIA GPU" in said.err


def test_report_of_the_cpu(script: ModuleType, model_file: Path, tmp_path: Path) -> None:
    files = {"json": tmp_path / "r.json", "markdown": tmp_path / "r.md"}
    arguments = ["--cpu", "--model", str(model_file), "--frame", "96x128", "--seconds", "0.01"]
    for option, path in files.items():
        arguments += [f"--{option}", str(path)]
    assert script.main(arguments) == 0
    report = json.loads(files["json"].read_text())
    (model,) = report["models"]
    assert model["skipped"] == {}
    assert [row["engine"] for row in model["rows"]] == list(script.CPU_ENGINES)
    assert all(row["fps"] > 0 for row in model["rows"])
    live = model["live"]
    assert [row["camera"] for row in live] == len(script.CPU_ENGINES) * ["100 frames/s", "unpaced"]
    assert [row["engine"] for row in live[::2]] == list(script.CPU_ENGINES)
    for row in live:
        assert row["published"] + row["dropped"] >= FEWEST
        assert row["published_fps"] > 0
        assert 0 < row["latency_p50_ms"] <= row["latency_p99_ms"]
        assert row["dropped"] == 0 or row["camera"] != "unpaced"
    text = files["markdown"].read_text()
    assert "| OpenVINO | 96x128 |" in text
    assert "parity of PyTorch CPU with OpenVINO" in text


def test_engines_that_did_not_run_are_named(script: ModuleType, model_file: Path) -> None:
    if find_gpu() is not None:
        pytest.skip("this machine has an NVIDIA GPU")
    engines = {"TensorRT FP16": script.GPU_ENGINES["TensorRT FP16"]}
    (report,) = script.report_model(model_file, [(64, 64)], engines, Rates(), 0.01)
    assert report["rows"] == []
    assert "needs an NVIDIA GPU" in report["skipped"]["TensorRT FP16"]


def test_what_one_engine_raises_does_not_cost_the_figures_of_the_others(
    script: ModuleType, model_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(model: Path, judged: bool) -> Engine:
        kept = json.loads((tmp_path / "r.json").read_text())
        assert kept["models"][0]["rows"], "what came before is on the disk"
        log.warning("it runs step by step")
        raise AssertionError("Torch not compiled with CUDA enabled")

    engines = {"OpenVINO": script.CPU_ENGINES["OpenVINO"], "broken": broken}
    monkeypatch.setattr(script, "CPU_ENGINES", engines)
    monkeypatch.setattr(script, "measure_live", lambda *_: [])
    arguments = f"--cpu --model {model_file} --frame 64x64 --seconds 0.01".split()
    arguments += ["--json", str(tmp_path / "r.json"), "--markdown", str(tmp_path / "r.md")]
    assert script.main(arguments) == 0
    why = "broken did not run to its end: AssertionError: Torch not compiled with CUDA enabled"
    assert why in (tmp_path / "r.md").read_text()
    assert "- broken warned: it runs step by step\n" in (tmp_path / "r.md").read_text()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--frame", "10x10"], "10x10: give HxW, 32 or more each"),
        (["--seconds", "nan"], "nan: give more than 0"),
        (["--engine", "zebra"], "invalid choice: 'zebra'"),
    ],
)
def test_what_cannot_be_measured_is_refused(
    script: ModuleType, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        script.main(["--cpu", *arguments])
    assert ended.value.code == 2
    assert words in capsys.readouterr().err


def test_where_it_cannot_be_written_is_said_before_anything_is_measured(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(script, "report_model", lambda *_: pytest.fail("measured"))
    for path in (tmp_path / "none" / "r.json", tmp_path):
        assert script.main(["--cpu", "--json", str(path)]) == 2


def test_an_engine_of_other_machines_is_refused_and_figures_of_before_are_kept(
    script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = tmp_path / "r.json"
    before.write_text("figures")
    assert script.main(["--cpu", "--engine", "CUDA graphs FP16", "--json", str(before)]) == 2
    assert "no such engine here; name one of: " in capsys.readouterr().err
    arguments = ["--cpu", "--json", str(before), "--markdown", str(tmp_path / "r.md")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(script, "report_model", lambda *_: iter(()))  # killed before the first
        script.main(arguments)
    assert before.read_text() == "figures"


def test_a_suite_that_hangs_or_crashes_is_told(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(script, "ROOT", tmp_path)
    assert "needs a clone" in script._conformance()
    suite = tmp_path / script.CONFORMANCE
    suite.parent.mkdir(parents=True)
    crash = "import os, pytest\n@pytest.mark.filterwarnings('ignore')\ndef test(): os._exit(9)\n"
    suite.write_text(crash)
    monkeypatch.setattr(script, "MARKED", "not gpu")
    assert script._conformance().startswith("ended with status 9")
    monkeypatch.setattr(script, "CONFORMANCE_S", 0.01)
    assert script._conformance() == "was not over after 0.01 s"


def test_there_is_something_to_judge_in_its_frames(script: ModuleType) -> None:
    engine = OpenVinoEngine(default_model(), 1, precision="f32")
    for shape in ((64, 96), (512, 512)):
        assert script.frame_of(shape).shape == shape
        assert engine.submit(script.frame_of(shape))().judgement.verdict != "blank"
    engine.close()


def test_operations_and_traffic_are_counted() -> None:
    shape = [1, 1, "height", "width"]
    kernel = onnx.numpy_helper.from_array(np.ones((2, 1, 3, 3), np.float32), "kernel")
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Conv", ["frames", "kernel"], ["refocused"], pads=[1] * 4)],
        "one convolution",
        [onnx.helper.make_tensor_value_info("frames", onnx.TensorProto.FLOAT, shape)],
        [onnx.helper.make_tensor_value_info("refocused", onnx.TensorProto.FLOAT, None)],
        [kernel],
    )
    model = onnx.helper.make_model(graph, ir_version=10)
    model.opset_import[0].version = 20
    work = work_of(model, (60, 33))
    assert work.operations == 2 * (3 * 3) * 2 * (64 * 64)
    assert work.traffic == 2 * (1 + 2) * (64 * 64)
    shares = work.shares(Rates(matrix=1e9, memory=1e6), 10.0)
    assert shares["percent_of_matrix_rate"] == pytest.approx(100 * work.operations / 1e7)
    assert shares["percent_of_bandwidth"] == pytest.approx(100 * work.traffic / 1e4)
    assert work.shares(Rates(), 10.0) == {}
