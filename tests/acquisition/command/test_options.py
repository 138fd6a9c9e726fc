"""The options of ``refocus-live run``: those of its settings, no more and no less."""

from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from refocus.acquisition.command import cli
from refocus.configs import RefocusError
from refocus.configs.command import run_command
from refocus.configs.light_path import KnownOptics
from refocus.configs.live_config import LiveConfig
from refocus.configs.options import option_places

RUN: Any = typer.main.get_command(cli.app).commands["run"]  # type: ignore[attr-defined]
NAMES = """
--demo --replay --mm-config --reference --specimen --sequence --frames --fps
--size --defocus --drift --tilt --exposure --engine --policy --queue --refocus-z --channel
--every-nth --region --on-distrust --na --immersion --emission-um --pixel-size-um --light-path
--processor --act --act-limit-um --reimage --reimage-frames --publish --publish-raw --insecure
--keys --shared-memory
--metrics --wait-subscribers --save --report --strict --config --json
"""
FLAGS = "--demo --refocus-z --act --publish-raw --insecure --shared-memory --strict --json"
OF_THE_COMMAND = ["config", "as_json"]


def test_every_key_is_an_option_and_every_option_a_key() -> None:
    assert [name for option in RUN.params for name in option.opts] == NAMES.split()
    keys = [place[-1] for place in option_places(LiveConfig)]
    assert [option.name for option in RUN.params] == [*keys, *OF_THE_COMMAND]
    assert [option.opts[0] for option in RUN.params if option.is_flag] == FLAGS.split()
    assert not any(option.secondary_opts for option in RUN.params)


def test_the_help_gives_the_defaults_of_the_model() -> None:
    done = CliRunner().invoke(cli.app, ["run", "--help"], env={"COLUMNS": "200"})
    lines = {line.split()[1]: line for line in done.stdout.splitlines() if line.startswith("│ --")}
    options = {option.name: option for option in RUN.params}
    for *section, key in option_places(LiveConfig):
        field = (KnownOptics if section else LiveConfig).model_fields[key]
        line = lines[options[key].opts[0]]
        stated = field.default is not None and field.annotation is not bool
        assert (f"[default: {field.default}]" in line) == ("[default" in line) == stated, line


FILE = {"demo": True, "queue": 3, "engine": "fake"}


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("", FILE),
        ("--queue 8", FILE | {"queue": 8}),  # though it is the default
        ("--replay images", {"replay": Path("images"), "queue": 3, "engine": "fake"}),
        ("--region 1,2,64,32 --refocus-z", FILE | {"region": (1, 2, 64, 32), "refocus_z": True}),
        ("--na 0.75", FILE | {"optics": {"na": 0.75}}),
        ("--immersion 1.4 --na 1.2", FILE | {"optics": {"na": 1.2, "immersion": 1.4}}),
        ("--channel A=auto --channel B=m=2", FILE | {"channels": {"A": "auto", "B": "m=2"}}),
    ],
)
def test_only_what_is_given_is_laid_over_the_file(
    typed: str, expected: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "run.yaml"
    file.write_text("demo: true\nqueue: 3\nengine: fake\n")
    seen: list[LiveConfig] = []

    def note(settings: LiveConfig, watcher: Any, typed: Any) -> None:
        seen.append(settings)
        raise RefocusError("not run here")

    monkeypatch.setattr("refocus.acquisition.command.session.run", note)
    run_command(cli.app, "", arguments=["run", "--config", str(file), *typed.split()])
    assert seen[0].model_dump(exclude_unset=True) == expected


@pytest.mark.parametrize(
    ("typed", "says"),
    [
        (
            "--channel DAPI=auto --channel DAPI=none",
            "--channel: 'DAPI=auto' and 'DAPI=none' are given; give one of them",
        ),
        ("--channel DAPI", "--channel: write NAME=MODEL, such as DAPI=auto, got 'DAPI'"),
        ("--region 1,2,x,4", "--region: give X,Y,WIDTH,HEIGHT in pixels"),
        ("--region 0,0,64", "got 0,0,64"),
        ("--policy oldest", "--policy: input should be 'newest' or 'every', got 'oldest'"),
        ("--publish nowhere", "--publish: 'nowhere' is not an endpoint; write for example tcp://"),
        ("--save=", "--save: name a file or a folder, or leave it out"),
        ("--report=", "--report: name a file or a folder, or leave it out"),
        ("--keys=", "--keys: name a file or a folder, or leave it out"),
        ("--queue many", "'--queue'"),
        ("--na wide", "'--na'"),
        (
            "--emission-um 520",
            "--emission-um: 520 µm is no wavelength of light; did you mean 0.52?",
        ),
        ("--na 1.3 --immersion air", "live: na 1.3 with immersion index 1: an aperture is below"),
    ],
)
def test_a_wrong_option_is_refused_in_one_line(
    typed: str, says: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run_command(cli.app, "", arguments=["run", "--demo", *typed.split()]) == 2
    out, err = capfd.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert says in err
