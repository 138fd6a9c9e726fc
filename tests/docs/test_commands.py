"""Every command of README.md and docs/ is run, in a folder with small inputs.

A command that nobody provided for is run as it stands: if it needs a file, that file belongs on
the desk (``conftest.py``). What would take long is run shorter; what cannot run here is checked as
far as it can be, and stands in ``CHECKED`` with the reason.
"""

import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import tomllib
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from select import select
from typing import Any

import pytest
import typer

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"^```(?P<language>[^\n]*)\n(?P<text>.*?)^```$", re.DOTALL | re.MULTILINE)
LOOKS_LIKE_A_COMMAND = re.compile(r"^(refocus-\w+|python|pip|make) ", re.MULTILINE)
FOREVER = "until Ctrl-C"
"""In the comment behind a command: it is stopped by hand."""
PATIENCE = 900.0

SHORTER = {
    r"refocus-live run --demo\b(?!.*--size)": " --size 64",
    r"refocus-live run --demo\b(?!.*--frames)": " --frames 3",
    r"refocus-train fit --config (?!.*--max-steps)": " --max-steps 2 --workers 0",
    r"python -m refocus.bench.specimens_report": " --fields 1 --side 64",
    r"python -m refocus.bench.reimage_report": " --fields 3",
    r"python -m refocus.bench.objectives_report": " --frames 1 --objectives 1",
    r"python -m refocus.bench.stack_report": " --stacks 1 --objectives 1",
    r"python -m refocus.bench.limits_pictures": " --only near",
    r"python -m refocus.bench.plate_picture": " --wells 6",
    r"python -m refocus.bench.plates": " --wells 6",
    r"benchmark_app": " -t 1",
    r"refocus-view (?!--help|--install)": " --port 0",
}
"""What is added to a command so that it takes seconds, and takes no port from another."""


def is_a_target(words: list[str]) -> None:
    """Make would know what to do: running it is what continuous integration does itself."""
    subprocess.run(["make", "--dry-run", *words[1:]], cwd=ROOT, check=True, capture_output=True)


def installs_what_there_is(words: list[str]) -> None:
    """Nothing is installed while tests run; the extras and the files exist."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    if "-c" in words:
        assert (ROOT / words[words.index("-c") + 1]).is_file()
    named = re.search(r"\[([\w,-]+)\]", words[-1])
    assert set(named[1].split(",") if named else ()) <= set(project["optional-dependencies"])


def parses(words: list[str]) -> None:
    """The command understands every word; it is not carried out."""
    modules = {
        "refocus-live": "refocus.acquisition.command.cli",
        "refocus-train": "refocus.training.cli",
        "refocus-bench": "refocus.bench.cli",
        "refocus-export": "refocus.export.cli",
    }
    command: Any = typer.main.get_command(import_module(modules[words[0]]).app)
    arguments = words[1:]
    if words[1] in getattr(command, "commands", ()):
        command, arguments = command.commands[words[1]], words[2:]
    command.make_context(" ".join(words[:2]), arguments)


def is_there(words: list[str]) -> None:
    """The script, or the module, exists and is Python."""
    script = ROOT / words[1]
    if words[1] == "-m":
        script = ROOT.joinpath(*words[2].split(".")[1:]).with_suffix(".py")
    compile(script.read_text(encoding="utf-8"), script, "exec")


CHECKED: dict[str, tuple[Callable[[list[str]], None], str]] = {
    r"make ": (is_a_target, "continuous integration runs them"),
    r"python -m venv ": (lambda _: None, "an environment would have to be filled from the network"),
    r"pip install ": (installs_what_there_is, "needs the network"),
    r"python -m pytest": (lambda _: None, "this is it"),
    r"refocus-train fetch ": (parses, "needs the network"),
    r"refocus-bench --(quick|json)": (parses, "takes minutes; tests/bench/test_bench.py"),
    r"refocus-bench scale": (parses, "takes minutes; tests/bench/test_planning.py"),
    r"refocus-train (calibrate|evaluate .*--trust)": (parses, "minutes; test_calibrate.py"),
    r"python -m refocus.bench.trust_time": (is_there, "a benchmark"),
    r"refocus-train fit --config simulated-": (parses, "tests/training runs it, for fifty steps"),
    r"refocus-export onnx (?!runs/)": (parses, "train-your-own.md runs it; tracing takes long"),
    r"refocus-train evaluate engine/models/any-": (parses, "README.md runs it for the other model"),
    r"refocus-train evaluate .*--folder-per-plane": (parses, "tests/training/judging"),
    r"refocus-live (run|process) .*grpcs?://": (parses, "needs a server; tests/engine/triton"),
    r"refocus-export bioimageio ": (parses, "needs an extra; tests/export/test_to_bioimageio.py"),
    r"refocus-export card ": (parses, "needs its own model; tests/export/test_card.py"),
    r"refocus-export tensorrt ": (parses, "needs a GPU or an extra; tests/export/test_cli.py"),
    r"python -m refocus.bench.view_": (is_there, "needs a browser; tests/view runs it shorter"),
    r"python -m refocus.bench.napari_picture": (is_there, "needs napari and a display"),
    r"python examples/": (is_there, "tests/examples runs them all"),
}
"""What cannot run here: what is done instead, and why."""


def blocks(page: Path) -> list[list[str]]:
    """Give the commands of a page's ``sh`` blocks, each on one line, comments included."""
    found = []
    for fence in FENCE.finditer(page.read_text(encoding="utf-8")):
        if fence["language"] == "sh":
            lines = fence["text"].splitlines()
            found.append([re.sub(r" +", " ", x).strip() for x in lines if x.strip()])
    return found


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def pages_to_run() -> list[Any]:
    """Give each page with the blocks of it that are run, in pairs of a command and its comment.

    Pages repeat each other: a command is run where it stands first. A reader is started again
    beside a publisher that is new.
    """
    told: set[str] = set()
    found = []
    for page in PAGES:
        kept = []
        for block in blocks(page):
            parts = (line.partition(" #") for line in block if not line.startswith("#"))
            pairs = [(c.strip().removeprefix(".venv/bin/"), comment) for c, _, comment in parts]
            if new := {command for command, _ in pairs} - told:
                kept.append([x for x in pairs if x[0] in new or "watch" in x[0]])
                told |= new
        if kept:
            found.append(pytest.param(kept, id=name_of(page)))
    return found


@pytest.fixture
def port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        number: int = probe.getsockname()[1]
        return number


@pytest.fixture(scope="session")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Give the commands a home of their own, and one thread for PyTorch: it is a small model."""
    home = str(tmp_path_factory.mktemp("home"))
    path = f"{BIN}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "HOME": home, "OMP_NUM_THREADS": "1"}


class Shell:
    """Runs the commands of one block; some of them beside each other."""

    def __init__(self, folder: Path, environment: dict[str, str], port: int) -> None:
        self._folder, self._environment, self._port = folder, environment, port
        self._beside: list[tuple[str, subprocess.Popen[str]]] = []

    def run(self, command: str, comment: str) -> None:
        command = command.replace(":5556", f":{self._port}")
        if "--wait-subscribers" in command:
            self._beside.append((command, self._start(command)))
            return
        if command.startswith("refocus-live watch") and not self._beside:
            publisher = (
                f"refocus-live run --demo --engine fake --size 64 --frames 2 "
                f"--publish tcp://127.0.0.1:{self._port} --wait-subscribers 1"
            )
            self._beside.append((publisher, self._start(publisher)))
        if FOREVER in comment:
            self._interrupt(command)
        else:
            self._succeeds(command, self._start(command))

    def finish(self) -> None:
        """Wait for what runs beside."""
        while self._beside:
            self._succeeds(*self._beside.pop(0))

    def kill(self) -> None:
        for _, process in self._beside:
            process.kill()
            process.communicate()

    def _start(self, command: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            ["bash", "-c", f"set -euo pipefail\n{command}\ntrue"],
            cwd=self._folder,
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            text=True,
        )

    def _succeeds(self, command: str, process: subprocess.Popen[str]) -> None:
        try:
            out, err = process.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
        assert process.returncode == 0, f"{command}\n{out}\n{err}"
        assert "Traceback" not in err

    def _interrupt(self, command: str) -> None:
        process = subprocess.Popen(
            shlex.split(command),
            cwd=self._folder,
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._beside.append((command, process))  # killed, should it never say a thing
        assert process.stdout
        assert select([process.stdout], [], [], PATIENCE)[0], f"{command} says nothing"
        process.stdout.readline()
        with suppress(subprocess.TimeoutExpired):
            process.wait(0.5)
        assert process.poll() is None, f"{command} ends by itself"
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=PATIENCE)
        assert process.returncode == 130, f"{command}\n{err}"
        assert "Traceback" not in err
        self._beside.pop()


@pytest.mark.slow
@pytest.mark.parametrize("page", pages_to_run())
def test_every_command_of_a_page_runs(
    page: list[list[tuple[str, str]]], desk: Path, environment: dict[str, str], port: int
) -> None:
    for block in page:
        shell = Shell(desk, environment, port)
        try:
            for command, comment in block:
                check = next((c for p, c in CHECKED.items() if re.match(p, command)), None)
                if check is not None:
                    check[0](shlex.split(command))
                    continue
                more = [text for pattern, text in SHORTER.items() if re.match(pattern, command)]
                shell.run(command + "".join(more), comment)
            shell.finish()
        finally:
            shell.kill()


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_no_command_hides_in_another_block(page: Path) -> None:
    for fence in FENCE.finditer(page.read_text(encoding="utf-8")):
        if fence["language"] != "sh":
            assert not LOOKS_LIKE_A_COMMAND.search(fence["text"]), fence["text"]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_a_command_is_one_line_as_every_shell_takes_it(page: Path) -> None:
    lines = [line for block in blocks(page) for line in block]
    assert [line for line in lines if line.endswith(("\\", "`", "^"))] == []


@pytest.mark.slow
def test_the_lines_of_the_readme_run_as_they_stand(
    tmp_path: Path, environment: dict[str, str], port: int
) -> None:
    pytest.importorskip("mm_test_adapters")
    page = (ROOT / "README.md").read_text(encoding="utf-8").replace(":5556", f":{port}")
    attached, reader = (f["text"] for f in FENCE.finditer(page) if f["language"] == "python")
    read = subprocess.Popen(
        [sys.executable, "-c", reader],
        env=environment,
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        done = subprocess.run(
            [sys.executable, "-c", attached],
            env=environment,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert "'received': 10" in done.stdout
        frames = read.communicate(timeout=PATIENCE)[0].splitlines()
    finally:
        read.kill()
    assert "9 (512, 512) 0" in frames


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_python_in_the_pages_is_python(page: Path) -> None:
    for fence in FENCE.finditer(page.read_text(encoding="utf-8")):
        if fence["language"] == "python":
            compile(fence["text"], name_of(page), "exec")


def test_a_command_that_fails_is_noticed(
    tmp_path: Path, environment: dict[str, str], port: int
) -> None:
    shell = Shell(tmp_path, environment, port)
    with pytest.raises(AssertionError, match="no_such_preset: no such file"):
        shell.run("refocus-train show no_such_preset > x.yaml", "")
    with pytest.raises(AssertionError, match="ends by itself"):
        shell.run("echo over", FOREVER)
    shell.kill()
