"""The real page in a real browser, and what is looked at there."""

import io

import numpy as np
import pytest
from PIL import Image

from .wire import tab_at

FLAGS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]
TOP = 65535


@pytest.fixture(scope="module")
def browser(chromium):
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def page(browser):
    """Give a page of a tablet's size, on which no script may fail."""
    context = browser.new_context(viewport={"width": 1024, "height": 700}, has_touch=True)
    page = context.new_page()
    page.set_default_timeout(30_000)
    problems = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("console", lambda said: "Security Policy" in said.text and problems.append(said.text))
    yield page
    context.close()
    assert problems == []


@pytest.fixture
def tab(viewer):
    with tab_at(viewer[0]) as tab:
        yield tab


@pytest.fixture
def watching(stream, viewer, page):
    """Open the page in front of a run that has begun."""
    page.goto(f"http://{viewer[0]}/")
    page.locator("#link[data-phase=idle]").wait_for()
    stream.run()
    page.locator("#link[data-phase=running]").wait_for()
    return page


def banner(page, kind):
    return page.locator(f"#banners [data-kind={kind}]")


def shows(page, frame):
    page.locator(f'#stage[data-frame="{frame}"]').wait_for()


def text(page, name):
    return page.locator(f"#{name}").inner_text()


def picture(page):
    """Give the greys on the canvas, without what is written over it."""
    page.evaluate("for (const e of document.querySelectorAll('#stage > :not(canvas)'))"
                  " e.style.visibility = 'hidden'")  # fmt: skip
    box = page.locator("#picture").bounding_box()
    shot = page.screenshot(clip=box)
    page.evaluate("for (const e of document.querySelectorAll('#stage > :not(canvas)'))"
                  " e.style.visibility = ''")  # fmt: skip
    return np.asarray(Image.open(io.BytesIO(shot)).convert("L")).astype(int)


def screenshot(page):
    """Give all of the window, ``(H, W, 3)``."""
    return np.asarray(Image.open(io.BytesIO(page.screenshot())).convert("RGB")).astype(int)


def fits(greys, expected):
    """Tell whether the middle row of a pane shows ``expected``, square, fitted, from 0 to 1."""
    height, width = greys.shape
    side = min(height, width)
    left = (width - side) // 2
    row = greys[height // 2, left : left + side]
    places = ((np.arange(side) + 0.5) / side * len(expected)).astype(int)
    return np.abs(row - 255 * np.asarray(expected)[places])[4:-4].max() < 14


def ramp(side, dtype):
    """Give a square picture from black on the left to white on the right."""
    row = np.linspace(0, np.iinfo(dtype).max, side)
    return np.broadcast_to(row, (side, side)).astype(dtype)
