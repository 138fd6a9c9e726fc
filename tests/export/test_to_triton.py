"""A model repository of NVIDIA Triton."""

import zipfile
from pathlib import Path
from typing import Any

import pytest

from refocus.configs import RefocusError
from refocus.engine.half_precision import half_precision
from refocus.engine.model_file import embed_card, read_model
from refocus.engine.shipped import shipped_models
from refocus.engine.tensorrt.build import Profile, Runtime
from refocus.engine.tensorrt.cache import describe, write_plan
from refocus.engine.triton.signature import check_signature, signature, version_number
from refocus.export.to_triton import Served, triton_from_onnx

ANY = shipped_models()["any-objective"]


def configuration_of(served: Served) -> Any:
    """Read a configuration by Triton's own schema."""
    text_format = pytest.importorskip("google.protobuf.text_format")
    schema = pytest.importorskip("tritonclient.grpc.model_config_pb2", reason="needs [triton]")
    text = (served.folder / "config.pbtxt").read_text(encoding="utf-8")
    return text_format.Parse(text, schema.ModelConfig())


def plan_of(model: Path, path: Path, runtime: str = "tensorrt", batch: int = 1) -> Path:
    """Write what a plan of this model would have beside it."""
    proto, card = read_model(model)
    card = embed_card(half_precision(proto), card)
    profile = Profile.of((512, 512), (2048, 1024), batch)
    profile = profile if batch == 1 else Profile.of((512, 512), None, batch)
    write_plan(path, b"plan", describe(card, Runtime(runtime, "10.9", None), profile, None, "8.9"))
    return path


def test_the_model_of_a_package_is_served_and_not_the_package(tmp_path: Path) -> None:
    package = tmp_path / "any.zip"
    with zipfile.ZipFile(package, "w") as archive:
        archive.writestr("rdf.yaml", "weights: {onnx: {source: model.onnx}}\n")
        archive.writestr("model.onnx", ANY.read_bytes())
    served = triton_from_onnx(package, tmp_path / "repository", backend="onnx")
    content = (served.folder / str(served.version) / "model.onnx").read_bytes()
    assert content == ANY.read_bytes()


@pytest.mark.parametrize(
    ("backend", "platform", "kind", "file"),
    [
        ("onnx", "onnxruntime", "KIND_GPU", "model.onnx"),
        ("python", "python", "KIND_CPU", "model.onnx"),
        ("tensorrt", "tensorrt", "KIND_GPU", "model.plan"),
    ],
)
def test_a_repository(tmp_path: Path, backend: str, platform: str, kind: str, file: str) -> None:
    plan = plan_of(ANY, tmp_path / "any.plan") if backend == "tensorrt" else None
    served = triton_from_onnx(ANY, tmp_path / "repository", backend=backend, plan=plan)
    config = configuration_of(served)
    assert (config.name, config.backend) == ("any-objective", platform)
    assert list(config.version_policy.specific.versions) == [served.version]
    assert list(config.input[0].dims) == [1 if plan else -1, 4, -1, -1]
    assert [o.name for o in config.output] == ["refocused", "focus", "error", "features"]
    (group,) = config.instance_group
    assert group.kind == group.Kind.Value(kind)
    content = (plan or ANY).read_bytes()
    assert (served.folder / str(served.version) / file).read_bytes() == content
    assert [path.name for path in (tmp_path / "repository").iterdir()] == ["any-objective"]
    told = {key: value.string_value for key, value in config.parameters.items()}
    check_signature(signature(*read_model(ANY)), told, "here", config.name)
    assert version_number(told) == served.version


def test_a_model_of_the_same_name_is_replaced(tmp_path: Path, model_file: Path) -> None:
    first = triton_from_onnx(ANY, tmp_path, name="mine")
    second = triton_from_onnx(model_file, tmp_path, name="mine")
    assert first.folder == second.folder
    assert first.version != second.version
    assert sorted(path.name for path in second.folder.iterdir()) == sorted(
        ["config.pbtxt", str(second.version)]
    )


def test_a_model_that_cannot_be_replaced_is_kept(
    tmp_path: Path, model_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = triton_from_onnx(ANY, tmp_path, name="mine")
    rename = Path.rename

    def fails(self: Path, target: Path) -> Path:
        if self.name == "new":
            raise OSError("no more")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fails)
    with pytest.raises(RefocusError, match=r"mine: cannot be written \(no more\)"):
        triton_from_onnx(model_file, tmp_path, name="mine")
    assert (before.folder / str(before.version) / "model.onnx").is_file()
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"backend": "tensorrt"}, "needs --plan FILE"),
        ({"plan": Path("a.plan")}, "--plan a.plan needs --backend tensorrt"),
        ({"backend": "tensorrt", "plan": Path("a.plan")}, "a.plan: an engine without a readable"),
        ({"name": "a/b"}, "--name a/b: give letters"),
        ({"name": ""}, "--name : give letters"),
        ({"name": "a\nb"}, "--name a\nb: give letters"),
        ({"name": ".."}, r"--name \.\.: give letters"),
        ({"name": "-x"}, "--name -x: give letters"),
    ],
)
def test_what_does_not_fit_together(tmp_path: Path, options: dict[str, Any], words: str) -> None:
    with pytest.raises(RefocusError, match=words):
        triton_from_onnx(ANY, tmp_path / "repository", **options)
    assert not (tmp_path / "repository").exists()


def test_a_plan_that_cannot_be_served(tmp_path: Path, model_file: Path) -> None:
    for plan, words in (
        (plan_of(ANY, tmp_path / "rtx.plan", "tensorrt-rtx"), "which Triton does not run"),
        (plan_of(model_file, tmp_path / "other.plan"), "a plan of another model"),
        (plan_of(ANY, tmp_path / "four.plan", batch=4), "for 4 frames at a time"),
    ):
        with pytest.raises(RefocusError, match=words):
            triton_from_onnx(ANY, tmp_path / "repository", backend="tensorrt", plan=plan)


def test_a_folder_that_is_no_model_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "any-objective").mkdir()
    (tmp_path / "any-objective" / "thesis.txt").touch()
    with pytest.raises(RefocusError, match="there, and no model of Triton"):
        triton_from_onnx(ANY, tmp_path)
    assert (tmp_path / "any-objective" / "thesis.txt").is_file()
