"""The list of what is installed says what the files say."""

import json
from pathlib import Path

import pytest

from refocus.acquisition.command import cli
from refocus.acquisition.command.models import list_models, objectives
from refocus.configs import ModelCard, Optics
from refocus.configs.command import run_command
from refocus.engine.model_file import read_model
from refocus.engine.shipped import shipped_models


def test_every_model_that_ships_is_listed_and_when_it_is_taken(model_file: Path) -> None:
    listed = list(list_models([model_file]))
    assert [one["name"] for one in listed] == [*shipped_models(), "random"]
    assert [one["taken"] for one in listed] == [
        "where --engine names none, for every other objective that is known",
        "where --engine names none, for its objective or an unknown one",
        "",
    ]
    for one in listed:
        _, card = read_model(Path(one["file"]))
        assert (one["sha256"], one["licence"]) == (card.sha256, "BSD-3-Clause")
        assert one["stains"] == list(card.stains)
        assert one["judges"] == (one["name"] != "random")


@pytest.mark.parametrize(
    ("ranges", "says"),
    [
        ({}, "NA 0.75, pixels of 0.3 µm, light of 0.52 µm"),
        ({"sampling": (0.1, 1.2), "aperture": (0.07, 0.98)}, "any with NA / index 0.07 to 0.98"),
    ],
)
def test_the_objectives_are_those_of_the_card(ranges, says: str) -> None:
    optics = Optics(na=0.75, pixel_size_um=0.3, emission_um=0.52)
    card = ModelCard(
        name="x",
        version="1",
        architecture="compact",
        optics=optics,
        defocus_um=(1, 2),
        training_data="",
        licence="",
        **ranges,
    )
    assert objectives(card).startswith(says)


def test_the_command_prints_the_list_and_refuses_what_is_no_model(
    capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert run_command(cli.app, "", arguments=["models"]) == 0
    told = capfd.readouterr().out
    assert (
        "refocus-compact 4 (taken where --engine names none, for its objective or an unknown one)\n"
        in told
    )
    assert "  licence     BSD-3-Clause\n" in told
    assert run_command(cli.app, "", arguments=["models", "--json"]) == 0
    assert [one["name"] for one in json.loads(capfd.readouterr().out)] == list(shipped_models())
    (tmp_path / "x.onnx").write_bytes(b"no model")
    assert run_command(cli.app, "", arguments=["models", str(tmp_path / "x.onnx")]) == 2
    assert "x.onnx: not a readable ONNX model" in capfd.readouterr().err
