"""The documentation, built and opened from a folder in a real browser, can be searched."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_the_search_finds_pages_that_were_opened_from_disk(tmp_path: Path, chromium: str) -> None:
    pytest.importorskip("mkdocs")
    pytest.importorskip("material")
    from playwright.sync_api import sync_playwright

    build = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "-d", str(tmp_path)]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    subprocess.run(build, cwd=ROOT, env=environment, check=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page()
        foreign: list[str] = []
        page.on("request", lambda r: None if r.url.startswith("file:") else foreign.append(r.url))
        page.goto((tmp_path / "index.html").as_uri())
        page.keyboard.press("/")
        page.keyboard.type("continuous focus")
        found = page.locator("a.md-search-result__link").first
        found.wait_for(state="attached")
        assert (found.get_attribute("href") or "").startswith("file:")
        assert not [url for url in foreign if not url.startswith(("blob:", "data:"))]
        browser.close()
