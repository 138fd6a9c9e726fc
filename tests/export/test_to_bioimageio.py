"""A package is what ``bioimageio.core`` checks and runs; that needs the extra ``[bioimageio]``."""

import importlib.util
from pathlib import Path

import numpy as np
import onnx
import pytest

from refocus.configs.command import run_command
from refocus.engine import open_engine
from refocus.engine.model_file import embed_card, read_model
from refocus.engine.shipped import default_model, shipped_models
from refocus.export import cli
from refocus.optics.normalise import BRIGHT, DARK

INSTALLED = importlib.util.find_spec("bioimageio") is not None


def export(*arguments: object) -> int:
    return run_command(cli.app, "", arguments=["bioimageio", *map(str, arguments)])


@pytest.mark.skipif(not INSTALLED, reason="needs the extra [bioimageio]")
@pytest.mark.filterwarnings("ignore")
def test_others_find_what_we_find(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    from bioimageio.core import load_model_description, predict

    package = tmp_path / "model.zip"
    assert export(default_model(), package, "--author", "A. Name") == 0
    assert "refocus-compact" in capfd.readouterr().out
    described = load_model_description(package)
    assert [author.name for author in described.authors] == ["A. Name"]
    assert str(described.license) == "BSD-3-Clause"
    frame = np.random.default_rng(1).integers(100, 5000, (64, 96)).astype(np.uint16)
    frame[20:40, 30:60] += 9000
    sample = predict(model=package, inputs={"frame": frame[None, None].astype(np.float32)})
    units = np.asarray(sample.members["refocused"].data)[0, 0]
    low, high = np.percentile(frame, (100 * DARK, 100 * BRIGHT))
    engine = open_engine(package)
    ours = engine.refocus(frame).astype(float)
    engine.close()
    # the percentiles lie between two pixels here, and at one there
    difference = np.abs(np.clip(units * (high - low) + low, 0, 65535) - ours)
    assert difference.max() < 0.01 * np.ptp(ours)


@pytest.mark.skipif(not INSTALLED, reason="needs the extra [bioimageio]")
@pytest.mark.filterwarnings("ignore")
def test_what_does_not_pass_is_not_written(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    model, card = read_model(default_model())
    embed_card(model, card.model_copy(update={"licence": "whatever suits"}))
    onnx.save(model, tmp_path / "model.onnx")
    assert export(tmp_path / "model.onnx", tmp_path / "model.zip") == 2
    said = capfd.readouterr().err
    assert "model.zip: does not pass: " in said
    assert said.count("\n") == 1
    assert not (tmp_path / "model.zip").exists()


@pytest.mark.skipif(INSTALLED, reason="the extra is here")
def test_the_extra_is_named(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert export(default_model(), tmp_path / "model.zip") == 2
    assert "pip install 'refocus-live[bioimageio]'" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("model", "output", "says"),
    [
        ("any-objective", "model.zip", "nothing but ReFocus live makes them; give a model"),
        ("refocus-compact", "model.onnx", "a package's file name ends in .zip"),
        ("none", "model.zip", "none.onnx: no such model"),
    ],
)
def test_what_cannot_be_packed_is_refused_in_one_line(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], model: str, output: str, says: str
) -> None:
    file = shipped_models().get(model, tmp_path / f"{model}.onnx")
    assert export(file, tmp_path / output) == 2
    out, err = capfd.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert says in err
