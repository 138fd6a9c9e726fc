"""A BioImage.IO package stands for the model in it, and a bad one ends in one line."""

import zipfile
from pathlib import Path

import numpy as np
import pytest

from refocus.engine import EngineError, open_engine
from refocus.engine import package as package_module
from refocus.engine.model_file import read_model

DESCRIPTION = "weights: {onnx: {source: model.onnx}}\n"


def pack(path: Path, **members: bytes | str) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name.replace("_", "."), content)
    return path


@pytest.mark.parametrize("description", ["bioimageio_yaml", "rdf_yaml"])
def test_its_model_refocuses_as_the_file_does(
    model_file: Path, tmp_path: Path, description: str
) -> None:
    members = {description: DESCRIPTION, "model_onnx": model_file.read_bytes()}
    package = pack(tmp_path / "model.zip", **members)
    frame = np.random.default_rng(0).integers(100, 5000, (64, 96), np.uint16)
    made = []
    for model in (model_file, package):
        engine = open_engine(model)
        made.append(engine.refocus(frame))
        engine.close()
    np.testing.assert_array_equal(*made)


@pytest.mark.parametrize(
    ("members", "says"),
    [
        ({}, "has no bioimageio.yaml or rdf.yaml"),
        ({"rdf_yaml": "a: ["}, "not a readable package"),
        ({"rdf_yaml": "name: x"}, "has no ONNX model"),
        ({"rdf_yaml": "weights: {onnx: {source: ../../model.onnx}}"}, "has no ONNX model"),
        ({"rdf_yaml": DESCRIPTION, "model_onnx": b"x"}, "not a readable ONNX model"),
        ({"rdf_yaml": DESCRIPTION, "model_onnx": b"x" * 200}, "model.onnx is larger than"),
        ({"rdf_yaml": "#" * 200}, "rdf.yaml is larger than"),
    ],
)
def test_what_is_no_package_of_a_model_is_refused_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, members: dict[str, str], says: str
) -> None:
    monkeypatch.setattr(package_module, "MOST_MODEL", 100)
    monkeypatch.setattr(package_module, "MOST_DESCRIPTION", 100)
    with pytest.raises(EngineError, match=says) as raised:
        read_model(pack(tmp_path / "model.zip", **members))
    assert str(raised.value).startswith(f"{tmp_path / 'model.zip'}: ")
    assert "\n" not in str(raised.value)


def test_a_package_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"none\.zip: no such model"):
        open_engine(tmp_path / "none.zip")
