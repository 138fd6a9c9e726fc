"""Every picture of the documentation has its command, and its page says what is in it."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]
IMAGES = ROOT / "docs" / "images"
PAGES = {page: page.read_text(encoding="utf-8") for page in (ROOT / "docs").rglob("*.md")}
PAGES[ROOT / "README.md"] = (ROOT / "README.md").read_text(encoding="utf-8")
LIMITS = sorted((IMAGES / "limits").glob("*.jpg"))

MADE_BY = {
    "bench.png": r"refocus-bench .*--plot docs/images/bench.png",
    "demo.png": r"make demo",
    "limits/": r"python -m refocus.bench.limits_pictures docs/images/limits",
    "napari.jpg": r"python -m refocus.bench.napari_picture docs/images/napari.jpg",
    "plate.png": r"python -m refocus.bench.plate_picture",
    "reimage.png": r"python -m refocus.bench.reimage_report --picture",
    "trust-curves.png": r"refocus-train evaluate .*--trust",
    "verdicts.jpg": r"refocus-train evaluate .*--trust",
    "viewer": r"python -m refocus.bench.view_picture docs/images",
}
"""By the beginning of a picture's name: the command, which stands on a page that shows it."""


def name_of(picture: Path) -> str:
    return picture.relative_to(IMAGES).as_posix()


@pytest.mark.parametrize("picture", sorted(IMAGES.rglob("*.*g")), ids=name_of)
def test_a_picture_is_shown_on_a_page_that_says_how_it_is_made(picture: Path) -> None:
    name = name_of(picture)
    pages = [text for text in PAGES.values() if f"images/{name})" in text]
    assert pages
    (command,) = (command for start, command in MADE_BY.items() if name.startswith(start))
    assert any(re.search(command, page) for page in pages)


def told(picture: Path) -> dict[str, Any]:
    """Read what the command that drew a picture wrote into it."""
    with Image.open(picture) as image:
        found: dict[str, Any] = json.loads(image.info["comment"])
    return found


@pytest.mark.parametrize("picture", LIMITS, ids=name_of)
def test_what_is_said_of_a_limit_is_what_its_picture_shows(picture: Path) -> None:
    """The distance in its title; and in the paragraph above it the verdict, if that is special."""
    page = PAGES[ROOT / "docs" / "limits.md"]
    before, found, _ = page.partition(f"(images/{name_of(picture)})")
    assert found
    paragraph = before.split("\n\n")[-2]
    title = before.rpartition("![")[2]
    shown = told(picture)
    distances = [float(um) for um in re.findall(r"at (-?\d+) µm", title)]
    assert distances in ([], shown["defocus_um"])
    verdicts = re.findall(r"verdict[^.;]*? is `([\w-]+)`", paragraph)
    assert verdicts == [shown["verdict"]] or (not verdicts and shown["verdict"] == "refocused")
    captured, refocused = (float(figure.split()[0]) for figure in shown["figures"])
    if "does not help" in paragraph or "next to nothing" in paragraph:
        assert abs(refocused - captured) < 0.5
    if "nearer to the truth" in paragraph:
        assert refocused > captured


def test_the_pictures_of_limits_are_those_of_the_command() -> None:
    from refocus.bench.limits_pictures import CASES

    assert {picture.stem: tuple(told(picture)["defocus_um"]) for picture in LIMITS} == {
        name: case.defocus_um for name, case in CASES.items()
    }
