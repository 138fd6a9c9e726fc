"""The command ``refocus-export``."""

import importlib.util
import json
import sys
from pathlib import Path

import onnx
import pytest

from refocus.configs.trust import Thresholds
from refocus.engine.model_file import embed_card, opset, read_model
from refocus.engine.nvidia import find_gpu
from refocus.export import cli, to_onnx

TRUST = Thresholds(
    in_focus_um=1,
    beyond_um=9,
    frame_score=0.5,
    tile_score=0.5,
    full_score=0.9,
    better_score=0.5,
    error_factor=1,
    calibrated_on="a test",
    sha256="0" * 64,
)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REFOCUS_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def _traced_already(model_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trace the network once for all tests: it takes ten seconds."""
    monkeypatch.setattr(to_onnx, "convert", lambda _: onnx.load(model_file))


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]):
    """Run the command; give exit status, standard output, standard error."""

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["refocus-export", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        said = capfd.readouterr()
        return int(ended.value.code or 0), said.out, said.err

    return run


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.usefixtures("_traced_already")
def test_onnx(run, checkpoint_file: Path, tmp_path: Path, precision: str) -> None:
    output = tmp_path / "new" / "model.onnx"
    arguments = ("onnx", checkpoint_file, "--output", output, "--precision", precision, "--json")
    status, out, err = run(*arguments)
    assert (status, err) == (0, "")
    facts = json.loads(out)
    model, card = read_model(output)
    onnx.checker.check_model(model, full_check=True)
    assert facts["sha256"] == card.sha256
    assert facts["precision"] == precision
    assert facts["opset"] == opset(model) >= 17
    assert [p.name for p in output.parent.iterdir()] == ["model.onnx"]


@pytest.mark.usefixtures("_traced_already")
@pytest.mark.parametrize(
    ("change", "said"),
    [({"trust": TRUST}, "is calibrated; add"), ({"name": "other"}, "is other; add"), ({}, "")],
)
def test_a_model_that_is_something_else_gives_way_when_told(  # noqa: PLR0917
    run, checkpoint_file: Path, model_file: Path, tmp_path: Path, change: dict, said: str
) -> None:
    output = tmp_path / "model.onnx"
    model, card = read_model(model_file)
    embed_card(model, card.model_copy(update=change))
    onnx.save(model, output)
    arguments = ("onnx", checkpoint_file, "--output", output, "--json")
    status, _, err = run(*arguments)
    assert status == (2 if said else 0)
    assert said in err
    assert run(*arguments, "--overwrite")[0] == 0
    assert read_model(output)[1].trust is None


def test_exported_shapes_are_dynamic(model_file: Path) -> None:
    model = onnx.load(model_file)
    (frames,) = model.graph.input
    dims = frames.type.tensor_type.shape.dim
    assert [bool(d.dim_param) for d in dims] == [True, False, True, True]
    assert [o.name for o in model.graph.output] == list(to_onnx.OUTPUTS)


def test_verify_within_the_bound(run, model_file: Path, half_model_file: Path) -> None:
    status, out, _ = run("verify", model_file, half_model_file)
    assert status == 0
    assert "one hot pixel" in out
    assert "passed" in out


def test_verify_over_the_bound(run, model_file: Path, tmp_path: Path) -> None:
    from refocus.engine.model_file import embed_card

    model, card = read_model(model_file)
    weight = next(t for t in model.graph.initializer if t.name.endswith("correction.weight"))
    weight.CopyFrom(
        onnx.numpy_helper.from_array(2 * onnx.numpy_helper.to_array(weight), weight.name)
    )
    embed_card(model, card)
    onnx.save(model, tmp_path / "other.onnx")
    status, out, _ = run("verify", model_file, tmp_path / "other.onnx", "--json")
    assert status == 1
    report = json.loads(out)
    assert not report["passed"]
    assert any(f["problem"] for f in report["frames"])
    assert all(f["psnr_db"] is None for f in report["frames"] if f["largest"] == f["mean"] == 0)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["onnx", "none.safetensors"], "none.safetensors: no such checkpoint"),
        (["onnx", "a.safetensors", "--output", "b.txt"], "b.txt: a model's file name ends in"),
        (["onnx", "a.safetensors", "--precision", "int4"], "'int4' is not one of"),
        (["tensorrt", "none.onnx"], "no such model"),
        (["tensorrt", "none.onnx", "--frame", "big"], "--frame big: give HEIGHTxWIDTH"),
        (["tensorrt", "none.onnx", "--frame", "16x512"], "--frame 16x512: give HEIGHTxWIDTH"),
        (["tensorrt", "none.onnx", "--batch", "0"], "--batch"),
        (["tensorrt", "a.onnx", "--output", "a.onnx"], "a.onnx: an engine's file name ends in"),
        (["tensorrt", "a.onnx", "--layers", "a.onnx"], "a.onnx: a file of layers ends in .json"),
        (["triton", "none.onnx", "repository"], "no such model"),
        (["triton", "none.onnx", "repository", "--backend", "caffe"], "'caffe' is not one of"),
        (["triton", "none.onnx", "repository", "--threads", "-1"], "--threads"),
        (["triton", "none.onnx"], "Missing argument 'REPOSITORY'"),
        (["verify", "none.onnx"], "Missing argument 'B'"),
        (["verify", "none.onnx", "none.onnx"], "none.onnx: no such file"),
        (["verify", "--fast"], "No such option"),
    ],
)
def test_bad_input_is_one_line(run, arguments: list[str], words: str) -> None:
    status, out, err = run(*arguments)
    assert (status, out) == (2, "")
    assert words in err
    assert err.startswith("refocus-export: ")
    assert err.count("\n") == 1


def test_model_holds_no_path_of_its_maker(model_file: Path) -> None:
    content = model_file.read_bytes()
    assert str(Path(to_onnx.__file__).parents[1]).encode() not in content
    assert b"stack_trace" not in content


@pytest.mark.parametrize("command", ["onnx", "tensorrt", "triton", "verify"])
def test_help_has_examples(run, command: str) -> None:
    status, out, _ = run(command, "--help")
    assert status == 0
    assert f"refocus-export {command}" in out
    assert "Example" in out


def test_triton(run, model_file: Path, tmp_path: Path) -> None:
    status, out, err = run("triton", model_file, tmp_path / "new" / "repository", "--json")
    assert (status, err) == (0, "")
    facts = json.loads(out)
    assert (facts["served_as"], facts["backend"]) == ("random", "onnx")
    assert (tmp_path / "new" / "repository" / "random" / "config.pbtxt").is_file()


def test_tensorrt_that_is_not_installed(run, model_file: Path) -> None:
    if importlib.util.find_spec("tensorrt") is not None:
        pytest.skip("TensorRT is installed")
    status, _, err = run("tensorrt", model_file, "--runtime", "tensorrt")
    assert status == 2
    assert "pip install 'refocus-live[tensorrt]'" in err


def test_tensorrt_rtx_builds_without_a_gpu(run, model_file: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx", reason="needs the extra [tensorrt-rtx]")
    arguments = ("tensorrt", model_file, "--runtime", "tensorrt-rtx", "--frame", "64x96", "--json")
    status, out, _ = run(*arguments)
    assert status == 0
    first = json.loads(out)
    assert not first["from_cache"]
    assert first["size_bytes"] > 500_000
    assert json.loads(run(*arguments)[1])["from_cache"]
    beside = Path(first["output"] + ".json")
    assert json.loads(beside.read_text())["profile"] == [[1, 64, 96]] * 3
    if find_gpu() is None:
        status, _, err = run("verify", model_file, first["output"])
        assert status == 2
        assert "needs an NVIDIA GPU" in err


def test_tensorrt_rtx_for_another_gpu(run, half_model_file: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx", reason="needs the extra [tensorrt-rtx]")
    plan = tmp_path / "ada.plan"
    common = ("tensorrt", half_model_file, "--runtime", "tensorrt-rtx", "--frame", "64x64")
    sizes = ("--max-frame", "128x128", "--batch", 2)
    status, out, _ = run(*common, *sizes, "--target", "8.9", "--output", plan, "--json")
    assert status == 0
    assert json.loads(out)["capability"] == "8.9"
    assert json.loads(out)["profile"] == [[1, 32, 32], [2, 64, 64], [2, 128, 128]]
    assert sorted(p.name for p in tmp_path.glob("ada*")) == ["ada.plan", "ada.plan.json"]
    status, _, err = run(*common, "--target", "3.5")
    assert status == 2
    assert "allowed: 7.5, 8.0" in err
    status, _, err = run(*common, "--max-frame", "32x32")
    assert status == 2
    assert "is smaller than" in err
