#!/usr/bin/env python3
"""Take the pictures of docs/viewer.md: the real page in a browser, before the simulated microscope.

Needs the extra [test] and Chromium.

    python -m refocus.bench.view_picture docs/images
"""

import argparse
import io
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, ViewportSize, sync_playwright

from refocus.bench.report_command import run_report

COMMAND = [str(Path(sys.executable).parent / "refocus-view"), "--demo", "--port", "0", "--no-open"]
LARGE = ViewportSize(width=1440, height=900)
SMALL = ViewportSize(width=1200, height=760)


def take(page: Page, field: str) -> Iterator[tuple[str, bytes]]:
    """Look at the page in one way after another; give each file's name, and the picture."""
    page.locator("#select-p").select_option(field)
    page.mouse.move(420, 400)
    page.wait_for_timeout(4000)
    yield "viewer.png", page.screenshot()
    page.set_viewport_size(SMALL)
    page.keyboard.press("5")
    page.wait_for_timeout(6000)
    yield "viewer-overlay.jpg", page.screenshot()
    page.keyboard.press("1")
    page.keyboard.press("o")
    page.keyboard.press(",")
    page.keyboard.press(",")
    page.wait_for_timeout(4000)
    page.locator("#profile-section").evaluate("section => section.scrollIntoView()")
    page.wait_for_timeout(1000)
    yield "viewer-line.jpg", page.screenshot()


def main() -> None:
    """Let the microscope run for a while, and take the pictures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seconds", type=float, default=75.0, help="how long it runs before")
    parser.add_argument("--field", default="field 3", help="which field of view")
    parser.add_argument("--browser", default=shutil.which("chromium"), help="path of a Chromium")
    options = parser.parse_args()
    viewer = subprocess.Popen(COMMAND, stdout=subprocess.PIPE, text=True)
    try:
        address = viewer.stdout.readline().strip() if viewer.stdout else ""
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                executable_path=options.browser, args=["--no-sandbox", "--disable-gpu"]
            )
            page = browser.new_page(viewport=LARGE)
            page.set_default_timeout(300_000)
            page.goto(address)
            page.locator("#stage[data-frame]").wait_for()
            page.wait_for_timeout(options.seconds * 1000)
            for name, shot in take(page, options.field):
                file = options.folder / name
                Image.open(io.BytesIO(shot)).convert("RGB").save(file, optimize=True, quality=88)
                print(f"{file}: {file.stat().st_size / 1000:.0f} kB")
            browser.close()
    finally:
        viewer.terminate()
        viewer.wait(30)


if __name__ == "__main__":
    run_report(main)
