"""How the house is kept: rooms, their public names, and the size of files."""

import ast
import re
import tomllib
from functools import cache
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LONGEST_FILE = 400

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PACKAGES = PROJECT["tool"]["setuptools"]["packages"]
FOLDERS = {name: ROOT.joinpath(*name.split(".")[1:]) for name in PACKAGES}


def modules(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.py"))


@cache
def imported(file: Path) -> tuple[str, ...]:
    """Name every module of ours that a file imports, and whatever it imports of a package."""
    found = []
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("refocus."):
            found += [node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Import):
            found += [a.name for a in node.names if a.name.startswith("refocus.")]
    return tuple(found)


def test_every_folder_with_python_is_a_package_and_installed() -> None:
    folders = {f.parent for p in FOLDERS.values() for f in p.rglob("*.py")}
    assert folders == set(FOLDERS.values())


def test_every_package_has_its_place_among_the_layers() -> None:
    contracts = PROJECT["tool"]["importlinter"]["contracts"]
    (house,) = (c for c in contracts if c["name"] == "Imports go one way through the house")
    placed = {name for layer in house["layers"] for name in layer.split(" | ")}
    assert placed == {name for name in PACKAGES if name.count(".") == 1}
    assert placed == set(PROJECT["tool"]["importlinter"]["root_packages"])


@pytest.mark.parametrize("name", PACKAGES)
def test_a_package_says_what_it_is_for_and_lists_what_is_public(name: str) -> None:
    package = import_module(name)
    assert package.__doc__
    assert package.__all__ == sorted(package.__all__)
    here = {file.stem for file in modules(FOLDERS[name])}
    assert [p for p in package.__all__ if p not in here and not hasattr(package, p)] == []


@pytest.mark.parametrize("name", PACKAGES)
def test_only_what_is_public_is_imported_from_elsewhere(name: str) -> None:
    public = set(import_module(name).__all__)
    here = {f"{name}.{file.stem}" for file in modules(FOLDERS[name])} - {f"{name}.__init__"}
    for other in FOLDERS.values():
        if other == FOLDERS[name]:
            continue
        for file in modules(other):
            private = {m for m in imported(file) if m in here and m.split(".")[-1] not in public}
            assert not private, f"{file.relative_to(ROOT)} imports {private}"


def test_no_file_is_too_long() -> None:
    folders = [*FOLDERS.values(), ROOT / "tests", ROOT / "scripts", ROOT / "examples"]
    files = {file for folder in folders for file in folder.rglob("*.py")}
    lengths = {f: len(f.read_text(encoding="utf-8").splitlines()) for f in files}
    assert not {f.relative_to(ROOT): n for f, n in lengths.items() if n > LONGEST_FILE}


def test_every_text_file_is_opened_with_an_encoding() -> None:
    """Without one, Windows takes the letters of its own language."""
    folders = [*FOLDERS.values(), ROOT / "scripts", ROOT / "examples"]
    for file in sorted({file for folder in folders for file in folder.rglob("*.py")}):
        for call in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(call, ast.Call) and opens_text(call):
                given = {keyword.arg for keyword in call.keywords}
                assert "encoding" in given, f"{file.relative_to(ROOT)}, line {call.lineno}"


def opens_text(call: ast.Call) -> bool:
    """Tell whether a call reads or writes text, by its name and its mode."""
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    words = [arg.value for arg in call.args if isinstance(arg, ast.Constant)]
    mode = next((word for word in words if re.fullmatch("[rwaxbt+]+", str(word))), "")
    plain = isinstance(call.func, ast.Name) or mode
    return name in ("read_text", "write_text") or (name == "open" and plain and "b" not in mode)


def test_the_way_of_a_frame_leads_through_files_that_exist() -> None:
    page = (ROOT / "docs" / "house.md").read_text(encoding="utf-8")
    way = page.split("## One frame's way")[1].split("\n## ")[0]
    files = re.findall(r"^\d+\. `([\w/]+\.py)`", way, flags=re.MULTILINE)
    assert len(files) > 10
    assert [f for f in files if not (ROOT / f).is_file()] == []
    assert len(set(files)) == len(files)  # nobody turns back
