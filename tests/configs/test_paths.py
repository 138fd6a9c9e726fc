"""Paths as they are typed, and as they are printed."""

import shlex
from pathlib import Path

import pytest

from refocus.acquisition.command import cli as live
from refocus.configs.command import make_console, run_command, wrote
from refocus.configs.files import named
from refocus.export import cli as export
from refocus.view import cli as view

APPS = {"refocus-live": live.app, "refocus-view": view.app, "refocus-export": export.app}


@pytest.mark.parametrize(
    ("command", "typed"),
    [
        ("refocus-live", "keys ''"),
        ("refocus-live", "finish ''"),
        ("refocus-live", "process '' out"),
        ("refocus-live", "process in ''"),
        ("refocus-live", "models ''"),
        ("refocus-live", "watch tcp://127.0.0.1:1 --keys ''"),
        ("refocus-live", "run --config ''"),
        ("refocus-view", "--keys ''"),
        ("refocus-export", "onnx ''"),
    ],
)
def test_an_empty_path_is_not_the_folder_here(
    command: str,
    typed: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run_command(APPS[command], "", arguments=shlex.split(typed)) == 2
    assert "name a file or a folder; got ''." in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_tilde_is_the_home_folder_where_no_shell_has_said_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    assert run_command(APPS["refocus-live"], "", arguments=["keys", "~/keys"]) == 0
    assert (tmp_path / "home" / "keys" / "reader").is_dir()
    assert named("./~") == Path.cwd() / "~"


def test_names_are_printed_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    odd = "a[/b][red]:smile:"
    make_console().print(f"publish with {odd}")
    make_console().print(wrote(Path(odd + "\n")))
    assert capsys.readouterr().out == f"publish with {odd}\nwrote  {odd}\N{REPLACEMENT CHARACTER}\n"
