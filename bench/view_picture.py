#!/usr/bin/env python3
"""Take the picture of docs/viewer.md: the real page, in a browser, before the simulated microscope.

Needs the extra [test] and Chromium.

    python -m refocus.bench.view_picture docs/images/viewer.png
"""

import argparse
import io
import shutil
import subprocess
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

COMMAND = [str(Path(sys.executable).parent / "refocus-view"), "--demo", "--port", "0", "--no-open"]
WIDTH, HEIGHT = 1440, 900


def main() -> None:
    """Let the microscope run for a while, and take the picture."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("picture", type=Path)
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
            page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
            page.goto(address)
            page.wait_for_timeout(options.seconds * 1000)
            page.locator("#select-p").select_option(options.field)
            page.locator("#select-c").select_option("DAPI")
            page.mouse.move(420, 400)
            page.wait_for_timeout(3000)
            shot = page.screenshot()
            browser.close()
    finally:
        viewer.terminate()
        viewer.wait(30)
    Image.open(io.BytesIO(shot)).convert("RGB").save(options.picture, optimize=True)
    print(f"{options.picture}: {options.picture.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
