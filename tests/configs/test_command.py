"""What all commands do alike: help, completion, colours, one line for an error, exit statuses."""

import importlib
import json
import os
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from refocus.configs import RefocusError
from refocus.configs.command import TRAINING, click_command, command_app, run_command

BIN = Path(sys.executable).parent
MODULES = {
    "refocus-live": "refocus.acquisition.command.cli",
    "refocus-bench": "refocus.bench.cli",
    "refocus-train": "refocus.training.cli",
    "refocus-export": "refocus.export.cli",
    "refocus-view": "refocus.view.cli",
}


def command_of(name: str) -> Any:
    return click_command(importlib.import_module(MODULES[name]).app)


def leaves() -> Iterator[tuple[str, Any]]:
    """Give every command that does something, by what one types."""
    for name in MODULES:
        command = command_of(name)
        if getattr(command, "invoke_without_command", False):
            yield name, command
        for sub, leaf in getattr(command, "commands", {"": command}).items():
            yield f"{name} {sub}".strip(), leaf


LEAVES = dict(leaves())
each_leaf = pytest.mark.parametrize(("typed", "leaf"), list(LEAVES.items()), ids=list(LEAVES))


def run(*arguments: Any, **environment: str) -> subprocess.CompletedProcess[str]:
    command, *rest = map(str, arguments)
    return subprocess.run(
        [str(BIN / command), *rest],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=os.environ | environment,
    )


@each_leaf
def test_help_has_examples_that_parse_and_says_what_every_option_is(typed: str, leaf: Any) -> None:
    lines = [line for line in leaf.epilog.splitlines() if line.startswith("refocus-")]
    assert lines
    for line in lines:
        words = shlex.split(line.split(" > ")[0])
        assert words[: len(typed.split())] == typed.split()
        leaf.make_context(typed, words[len(typed.split()) :])  # refuses what it does not know
    for option in leaf.params:
        assert getattr(option, "help", ""), f"{typed} {option.name} is not explained"


@each_leaf
def test_json_means_the_same_everywhere(typed: str, leaf: Any) -> None:
    without = {"refocus-live keys", "refocus-train show", "refocus-train fetch", "refocus-view"}
    found = [option for option in leaf.params if "--json" in option.opts]
    assert bool(found) == (typed not in without)
    # a benchmark's rows go into a file, beside the tables that a person reads
    assert all(option.is_flag == (typed != "refocus-bench") for option in found)


@pytest.mark.parametrize(
    ("name", "begun", "completed"),
    [
        ("refocus-live", "wa", "watch"),
        ("refocus-train", "ev", "evaluate"),
        ("refocus-export", "ten", "tensorrt"),
        ("refocus-bench", "--qu", "--quick"),
    ],
)
def test_the_shell_completes(name: str, begun: str, completed: str) -> None:
    asked = {f"_{name.replace('-', '_').upper()}_COMPLETE": "complete_bash"}
    done = run(name, **asked, COMP_WORDS=f"{name} {begun}", COMP_CWORD="1")
    assert done.stdout.split() == [completed]


def ending(error: BaseException | int | None) -> typer.Typer:
    """Make a command that ends in a certain way."""
    app = command_app("refocus-test")

    @app.command()
    def command(wanted: int = 0) -> None:
        if isinstance(error, BaseException):
            raise error
        raise typer.Exit(error or 0)

    return app


class Ended(BaseException):
    """As SIGTERM does it."""


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (None, 0, ""),
        (1, 1, ""),
        (RefocusError("x.yaml: no such file"), 2, "refocus-test: x.yaml: no such file\n"),
        (
            FileNotFoundError(2, "No such file or directory", r"C:\data\x.png"),
            2,
            "refocus-test: C:\\data\\x.png: No such file or directory\n",
        ),
        (KeyboardInterrupt(), 130, "refocus-test: stopped by hand\n"),
        (typer.Abort(), 130, "refocus-test: stopped by hand\n"),
        (Ended(), 143, "refocus-test: ended\n"),
    ],
)
def test_every_end_has_its_status_and_one_line(
    error: Any, status: int, said: str, capfd: pytest.CaptureFixture[str]
) -> None:
    app = ending(error)
    assert run_command(app, "stopped by hand", {Ended: ("ended", 143)}, []) == status
    assert capfd.readouterr() == ("", said)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--wantd", "3"], "refocus-test: No such option: --wantd"),
        (["--wanted", "many"], "refocus-test: Invalid value for '--wanted'"),
        (["more"], "refocus-test: Got unexpected extra argument(s) (more)"),
    ],
)
def test_misuse_is_status_2_and_points_to_the_help(
    arguments: list[str], said: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run_command(ending(None), "", arguments=arguments) == 2
    out, err = capfd.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith(said)
    assert err.endswith("See `refocus-test --help`.\n")


def test_a_mistake_of_ours_is_not_dressed_up() -> None:
    with pytest.raises(ZeroDivisionError):
        run_command(ending(ZeroDivisionError()), "", arguments=[])


@pytest.mark.parametrize("name", MODULES)
def test_every_command_gives_its_version(name: str) -> None:
    done = run(name, "--version")
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text("utf-8"))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{name} {project['project']['version']}\n"


@pytest.mark.parametrize("name", ["refocus-live", "refocus-train", "refocus-export"])
def test_no_command_is_the_help_and_status_2(name: str) -> None:
    done = run(name)
    assert (done.returncode, done.stderr) == (2, "")
    assert "--install-completion" in done.stdout


def test_a_reader_that_goes_away_is_status_141_and_no_traceback() -> None:
    process = subprocess.Popen(
        [str(BIN / "refocus-train"), "show", "own-stack"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout
    assert process.stderr
    process.stdout.close()  # as `head` does
    said = process.stderr.read()
    process.stderr.close()
    assert (process.wait(60), said) == (141, b"")


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
@pytest.mark.parametrize(
    ("environment", "coloured"),
    [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)],
    ids=["terminal", "NO_COLOR", "dumb terminal"],
)
def test_colours_are_for_terminals_that_want_them(
    environment: dict[str, str], coloured: bool
) -> None:
    import pty

    ours, theirs = pty.openpty()
    inherited = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "FORCE_COLOR")}
    done = subprocess.run(
        [str(BIN / "refocus-train"), "show", "nowhere"],
        stdout=theirs,
        stderr=theirs,
        check=False,
        timeout=60,
        env={**inherited, "TERM": "xterm-256color", **environment},
    )
    os.close(theirs)
    said = os.read(ours, 4096)
    os.close(ours)
    assert done.returncode == 2
    assert b"nowhere: no such file" in said
    assert (b"\x1b[31m" in said) is coloured


def test_a_pipe_gets_no_colours_and_letters_that_it_has() -> None:
    done = run("refocus-live", "run", "--help", PYTHONIOENCODING="ascii")
    assert done.returncode == 0
    assert "?m" in done.stdout  # µm
    assert "\x1b" not in done.stdout


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (
            ["--demo", "--channel", r"DAPI=C:\models\dapi=2.onnx"],
            {"channels": {"DAPI": r"C:\models\dapi=2.onnx"}},
        ),
        (["--demo", "--engine", r"C:\models\mine.onnx"], {"engine": r"C:\models\mine.onnx"}),
        (
            ["--mm-config", r"C:\Program Files\Micro-Manager-2.0\MMConfig.cfg"],
            {"mm_config": Path(r"C:\Program Files\Micro-Manager-2.0\MMConfig.cfg")},
        ),
        (["--demo", "--publish", r"C:\pipe"], "--publish"),
        (["--demo", "--engine", r"C:\models\none.onnx"], r"C:\models\none.onnx: no such model"),
        (["--replay", r"C:\none"], r"C:\none"),
    ],
)
def test_windows_paths_are_taken_as_they_are(
    arguments: list[str],
    expected: dict[str, Any] | str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    from refocus.acquisition.command import cli
    from refocus.acquisition.command import session as running

    if isinstance(expected, str):
        assert run_command(cli.app, "", arguments=["run", *arguments]) == 2
        out, err = capfd.readouterr()
        assert (out, err.count("\n")) == ("", 1)
        assert expected in err
        return
    seen: list[Any] = []

    def note(settings: Any, watcher: Any, typed: Any) -> None:
        seen.append(settings)
        raise RefocusError("not run here")

    monkeypatch.setattr(running, "run", note)
    run_command(cli.app, "", arguments=["run", *arguments])
    assert {key: getattr(seen[0], key) for key in expected} == expected


def test_json_of_a_run_and_of_its_watcher_is_all_there_is(tmp_path: Path) -> None:
    endpoint = f"ipc://{tmp_path}/live"
    arguments = (
        f"run --demo --engine fake --size 64 --frames 3 --publish {endpoint} --wait-subscribers 1"
    )
    process = subprocess.Popen(
        [str(BIN / "refocus-live"), *arguments.split(), "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    watched = run("refocus-live", "watch", endpoint, "--json", "--timeout", 50)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, watched.returncode, watched.stderr) == (0, 0, "")
    assert json.loads(out)["frames"]["published"] == 3
    assert "waiting for 1 subscriber on" in err
    headers = [json.loads(line) for line in watched.stdout.splitlines()]
    frames = [header for header in headers if header["topic"] == "refocus.frame"]
    assert [(f["number"], f["shape"], f["lost"]) for f in frames] == [
        (number, [64, 64], 0) for number in range(3)
    ]
    assert headers[-1]["topic"] == "refocus.end"
    assert {header["schema"] for header in headers} == {"refocus/1"}


def test_what_training_needs_is_the_extra() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())

    extra = project["project"]["optional-dependencies"]["train"]

    assert sorted(TRAINING) == sorted(need.partition(">=")[0] for need in extra)


@pytest.mark.parametrize("missing", ["torch", "lightning.pytorch"])
def test_a_microscope_pc_is_told_what_training_needs(
    missing: str, capsys: pytest.CaptureFixture[str]
) -> None:
    app = command_app("refocus-train")

    @app.command()
    def fit() -> None:
        raise ModuleNotFoundError(f"No module named {missing!r}", name=missing)

    assert run_command(app, "", arguments=[]) == 2
    told = capsys.readouterr().err
    assert told.strip() == (
        f"refocus-train: needs {missing}; install the extra: pip install -e '.[train]'"
    )


def test_a_module_of_ours_that_is_missing_is_our_mistake() -> None:
    app = command_app("refocus-train")

    @app.command()
    def fit() -> None:
        raise ModuleNotFoundError("No module named 'refocus.lost'", name="refocus.lost")

    with pytest.raises(ModuleNotFoundError):
        run_command(app, "", arguments=[])


def test_as_many_files_may_be_open_as_are_allowed():
    pytest.importorskip("resource")
    code = (
        "import resource as r; from refocus.configs.command import allow_open_files; "
        "hard = min(1000, r.getrlimit(r.RLIMIT_NOFILE)[1]); "
        "r.setrlimit(r.RLIMIT_NOFILE, (100, hard)); allow_open_files(); "
        "print(r.getrlimit(r.RLIMIT_NOFILE) == (hard, hard))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "True"


def test_without_an_output_a_command_ends_as_with_one(monkeypatch: pytest.MonkeyPatch) -> None:
    app = command_app("some-command")
    done = []
    app.command()(lambda: done.append(True))
    monkeypatch.setattr(sys, "stdout", None)
    assert run_command(app, "", arguments=[]) == 0
    assert done
