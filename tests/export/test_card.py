"""What a configuration says of its data is in the card of the model, and nothing else changes."""

import shutil
from pathlib import Path

import onnx
import pytest

from refocus.configs.command import run_command
from refocus.configs.presets import load_train_config, preset_files
from refocus.engine.model_file import embed_card, read_model
from refocus.engine.shipped import shipped_models
from refocus.export import cli


@pytest.fixture
def untold(tmp_path: Path) -> Path:
    """Give a model whose card says nothing of stains."""
    path = tmp_path / "model.onnx"
    model, card = read_model(shipped_models()["refocus-compact"])
    embed_card(model, card.model_copy(update={"stains": ()}))
    onnx.save(model, path)
    return path


def rewrite(*arguments: object) -> int:
    return run_command(cli.app, "", arguments=["card", *map(str, arguments)])


def test_the_card_says_what_the_configuration_says(untold: Path) -> None:
    before, told = read_model(untold)
    assert told.stains == ()
    assert rewrite(untold, "--config", "refocus-compact") == 0
    after, card = read_model(untold)  # which checks weights and graph
    assert card.stains == load_train_config("refocus-compact").stains
    assert card.model_copy(update={"stains": ()}) == told
    assert after.graph == before.graph
    assert [file.name for file in untold.parent.iterdir()] == [untold.name]


def test_a_link_stays_one_and_another_licence_is_told(
    untold: Path, caplog: pytest.LogCaptureFixture
) -> None:
    link, config = untold.with_name("link.onnx"), untold.with_name("mine.yaml")
    link.symlink_to(untold)
    config.write_text("name: refocus-compact\nbased_on: refocus-compact\nlicence: CC0\n")
    assert rewrite(link, "--config", config) == 0
    assert link.is_symlink()
    assert read_model(untold)[1].licence == "CC0"
    assert "the licence was BSD-3-Clause, and is CC0 now" in caplog.text


@pytest.mark.parametrize("name", shipped_models())
def test_what_ships_says_what_its_configuration_says(name: str) -> None:
    config = load_train_config(name)
    _, card = read_model(shipped_models()[name])
    said = (card.version, card.stains, card.training_data, card.licence)
    assert said == (config.version, config.stains, config.training_data, config.licence)
    assert card.stains


def test_every_preset_but_the_one_for_data_of_your_own_names_stains() -> None:
    silent = {name for name in preset_files() if not load_train_config(name).stains}
    assert silent == {"own-stack"}


@pytest.mark.parametrize(
    ("file", "config", "says"),
    [
        (
            "model.onnx",
            "any-objective",
            "(compact), and the configuration makes",
        ),
        (
            "model.onnx",
            "{folder}/older.yaml",
            "and the configuration makes refocus-compact 3 (comp",
        ),
        ("model.onnx", "zebra", "zebra: no such file, nor a preset"),
        ("none.onnx", "refocus-compact", "none.onnx: no such model"),
        ("model.zip", "refocus-compact", "a model's file name ends in .onnx"),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_written(
    untold: Path, capfd: pytest.CaptureFixture[str], file: str, config: str, says: str
) -> None:
    shutil.copy(untold, untold.with_suffix(".zip"))
    older = "name: refocus-compact\nbased_on: refocus-compact\nversion: '3'\n"
    (untold.parent / "older.yaml").write_text(older)
    before = untold.read_bytes()
    config = config.format(folder=untold.parent)
    assert rewrite(untold.with_name(file), "--config", config) == 2
    said = capfd.readouterr().err
    assert says in " ".join(said.split())
    assert untold.read_bytes() == before
