"""The real page, in a browser, as a person uses it."""

import io
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

pytestmark = pytest.mark.slow

BIN = Path(sys.executable).parent
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
def watching(stream, viewer, page):
    """Open the page in front of a run that has begun."""
    stream.run()
    page.goto(f"http://{viewer[0]}/")
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


@pytest.mark.parametrize("painter", ["canvas", "webgl"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_captured_and_refocused_side_by_side(stream, viewer, page, painter, dtype):
    stream.run()
    page.goto(f"http://{viewer[0]}/?painter={painter}")
    assert page.locator("html").get_attribute("data-painter") == painter
    captured = ramp(32, dtype)
    stream.frame(np.invert(captured), captured)
    shows(page, 0)
    page.get_by_text("Full", exact=True).click()
    rising = np.linspace(0, 1, 32)
    page.wait_for_timeout(200)
    greys = picture(page)
    half = greys.shape[1] // 2
    assert fits(greys[:, : half - 1], rising)
    assert fits(greys[:, half + 1 :], 1 - rising)
    # a picture of another size, of another depth, is as good
    other = ramp(16, np.uint16 if dtype is np.uint8 else np.uint8)
    stream.frame(other, np.invert(other))
    shows(page, 1)
    page.wait_for_timeout(200)
    greys = picture(page)
    rising = np.linspace(0, 1, 16)
    assert fits(greys[:, : half - 1], 1 - rising)
    assert fits(greys[:, half + 1 :], rising)


def test_the_picture_and_the_numbers_follow_the_run(stream, watching, gradient, eventually):
    page = watching
    assert (text(page, "model-name"), text(page, "engine-name")) == (
        "refocus-compact 1",
        "openvino",
    )
    assert text(page, "engine-precision") == "bf16"
    before = None
    for number in range(3):
        refocused = np.full((32, 32), 1000 * (number + 1), np.uint16)
        stream.frame(refocused, refocused + 7)
        stream.stats(queued=number, frames={"dropped": number, "deferred": 2, "failed": 1})
        shows(page, number)
        page.get_by_text("Full", exact=True).click()
        eventually(lambda n=number: text(page, "n-published") == str(n + 1))
        assert text(page, "n-queue") == f"{number} of 8"
        assert text(page, "n-dropped") == str(number)
        assert (text(page, "n-deferred"), text(page, "n-failed")) == ("2", "1")
        page.wait_for_timeout(200)
        now = picture(page)
        assert before is None or (now != before).any()
        before = now
    eventually(lambda: re.fullmatch(r"\d+ ms", text(page, "n-latency")))
    eventually(lambda: re.fullmatch(r"\d+\.\d /s", text(page, "n-shown")))
    # the values under the pointer are the camera's own
    box = page.locator("#picture").bounding_box()
    page.mouse.move(box["x"] + box["width"] / 4, box["y"] + box["height"] / 2)
    assert text(page, "readout").split("  ")[2:] == ["captured 3007", "refocused 3000"]


def test_the_wipe_slides(stream, watching, gradient):
    page = watching
    captured = np.zeros((32, 32), np.uint16)
    stream.frame(captured + TOP, captured)
    shows(page, 0)
    page.get_by_text("Full", exact=True).click()
    page.keyboard.press("2")
    handle = page.locator("#wipe")
    stage = page.locator("#stage").bounding_box()

    def border():
        """Where captured ends and refocused begins, as a share of the width."""
        page.wait_for_timeout(200)
        greys = picture(page)
        bright = np.flatnonzero(greys[greys.shape[0] // 2] > 128)
        return bright[0] / greys.shape[1]

    assert border() == pytest.approx(0.5, abs=0.01)
    at = handle.bounding_box()
    page.mouse.move(at["x"] + at["width"] / 2, at["y"] + at["height"] / 2)
    page.mouse.down()
    page.mouse.move(stage["x"] + 0.7 * stage["width"], stage["y"] + 100, steps=4)
    page.mouse.up()
    assert border() == pytest.approx(0.7, abs=0.01)
    assert handle.get_attribute("aria-valuenow") == "70"
    for _ in range(5):
        page.keyboard.press("[")
    assert border() == pytest.approx(0.6, abs=0.01)


def test_flicker_alone_and_a_peek(stream, watching, eventually):
    page = watching
    captured = np.zeros((32, 32), np.uint16)
    stream.frame(captured + TOP, captured)
    shows(page, 0)
    labels = [page.locator(f"#label-{side}") for side in ("captured", "refocused")]

    def seen():
        return [label.is_visible() for label in labels]

    page.keyboard.press("3")
    for _ in range(2):  # there and back, by itself
        eventually(lambda: seen() == [True, False])
        eventually(lambda: seen() == [False, True])
    page.keyboard.press("Space")
    page.wait_for_timeout(500)  # a turn that had begun is over
    at = seen()
    page.wait_for_timeout(1500)
    assert seen() == at  # only by hand now
    page.keyboard.press("Space")
    eventually(lambda: seen() == at[::-1])
    page.keyboard.press("4")
    eventually(lambda: seen() == [False, True])
    page.keyboard.down("c")
    eventually(lambda: seen() == [True, False])
    page.keyboard.up("c")
    eventually(lambda: seen() == [False, True])


def test_zoom_and_pan_are_linked(stream, watching, gradient):
    page = watching
    stream.frame(gradient((64, 64)), gradient((64, 64)))
    shows(page, 0)
    box = page.locator("#picture").bounding_box()
    x, y = box["x"] + box["width"] * 0.3, box["y"] + box["height"] * 0.4

    def pixel(dx=0.0):
        page.mouse.move(x + dx, y)
        return re.findall(r"[xy] (\d+)", text(page, "readout"))

    before = pixel()
    page.mouse.wheel(0, -400)
    page.wait_for_timeout(200)
    assert pixel() == before  # zoomed about the pointer
    assert pixel(box["width"] / 2) == before  # and beside it, the same place
    page.mouse.down()
    page.mouse.move(x + box["width"] / 2 + 60, y)
    page.mouse.up()
    assert int(pixel()[0]) < int(before[0])
    assert pixel() == pixel(box["width"] / 2)
    page.keyboard.press("f")
    page.wait_for_timeout(200)
    assert pixel() == before


def test_two_fingers_zoom(stream, watching, gradient):
    page = watching
    stream.frame(gradient((64, 64)), gradient((64, 64)))
    shows(page, 0)
    page.keyboard.press("4")
    box = page.locator("#picture").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    touch = page.context.new_cdp_session(page)

    def fingers(kind, *apart):
        points = [{"x": x + side * way, "y": y, "id": i}
                  for way in apart for i, side in enumerate((-1, 1))]  # fmt: skip
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    def width():
        return page.locator("#scale-bar i").bounding_box()["width"] / float(
            text(page, "scale-bar").split()[0]
        )

    page.wait_for_timeout(200)
    before = width()
    fingers("touchStart", 20)
    for apart in (25, 30, 35, 40):
        fingers("touchMove", apart)
    fingers("touchEnd")
    page.wait_for_timeout(200)
    assert width() == pytest.approx(2 * before, rel=0.1)


@pytest.mark.parametrize(
    ("verdict", "words"),
    [
        ("in-focus", "● in-focus"),
        ("refocused", "✓ refocused"),
        ("beyond", "▲ beyond"),
        ("unfamiliar", "✕ unfamiliar"),
        ("unrated", "○ unrated"),
    ],
)
def test_the_verdict_is_over_the_picture(stream, watching, verdict, words, eventually):
    page = watching
    picture = np.zeros((32, 32), np.uint16)
    focus = {"distance_um": 7.64, "sigma_um": 0.8, "positive_side": 0.07}
    trust = {"verdict": verdict, "score": 0.987, "share": 0.84}
    tiles = {"side_px": 16, "rows": 2, "columns": 2}
    tiles |= {"distance_um": [7.0, 8.0, 9.0, 6.04], "share_percent": [100, 100, 40, 100]}
    stream.frame(picture, picture + 1, trust=trust, focus=focus, tiles=tiles)
    shows(page, 0)
    box = page.locator("#picture").bounding_box()
    for down, words_there in (
        (0.3, "7.0 µm from focus"),
        (0.7, "9.0 µm from focus, 40 % refocused"),
    ):
        page.mouse.move(box["x"] + box["width"] / 8, box["y"] + down * box["height"])
        eventually(lambda there=words_there: text(page, "readout").endswith(there))
    badge = page.locator("#verdict")
    assert badge.locator("b").inner_text() == words
    assert "7.6 ± 0.8 µm from focus" in badge.inner_text()
    assert ("−\u00a0side" in badge.inner_text()) == (verdict != "in-focus")
    assert "score 0.99" in badge.inner_text()
    assert "84 % refocused" in badge.inner_text()
    assert text(page, "label-refocused") == "refocused"
    stream.stats(verdicts={verdict: 1234, "refocused": 1234})
    eventually(lambda: "1,234" in text(page, "verdicts"))
    assert verdict in text(page, "verdicts")
    del focus["positive_side"]
    stream.frame(picture, picture, trust={"verdict": verdict, "share": 0.0}, focus=focus)
    shows(page, 1)
    assert "side" not in badge.inner_text()
    assert "score" not in badge.inner_text()
    assert text(page, "label-refocused") == "as captured"  # whatever the header says
    stream.frame(picture, picture + 1, refocused=False)
    shows(page, 2)
    assert not badge.is_visible()
    assert text(page, "label-refocused") == "as captured"


def test_the_selectors_follow_or_stay(stream, watching, gradient, eventually):
    page = watching
    for p, c in [(0, "DAPI"), (1, "FITC")]:
        stream.frame(gradient(), gradient(), index={"p": p}, channel=c)
        shows(page, p)
    eventually(lambda: page.locator("#select-p option").all_inner_texts()[1:] == ["left", "right"])
    assert page.locator("#select-p option").first.inner_text() == "follow: right"
    assert not page.locator("#select-z").is_visible()  # there is but one plane
    page.locator("#select-p").select_option("left")
    shows(page, 0)
    stream.frame(gradient(), gradient(), index={"p": 1}, channel="FITC")
    stream.frame(gradient(), gradient(), index={"p": 0}, channel="DAPI")
    shows(page, 3)
    page.locator("#select-p").select_option(index=0)
    stream.frame(gradient(), gradient(), index={"p": 1}, channel="FITC")
    shows(page, 4)
    page.locator("#picture").click()
    page.keyboard.press("p")  # stay here
    stream.frame(gradient(), gradient(), index={"p": 0}, channel="DAPI")
    stream.frame(gradient(), gradient(), index={"p": 1}, channel="FITC")
    shows(page, 6)
    assert text(page, "pin") == "Pinned"
    page.keyboard.press("p")
    stream.frame(gradient(), gradient(), index={"p": 0}, channel="DAPI")
    shows(page, 7)


def test_contrast_by_hand_and_by_percentile_for_each_channel(stream, watching):
    page = watching
    values = np.repeat(np.arange(1000, 3000, 100, dtype=np.uint16), 20).reshape(20, 20)

    def show(channel):
        number = stream.number
        stream.frame(values, values, channel=channel)
        shows(page, number)
        page.wait_for_timeout(400)

    def fields():
        return [page.locator(f"#contrast-{end}").input_value() for end in ("low", "high")]

    show("DAPI")
    assert fields() == ["0.1", "99.9"]
    page.get_by_role("button", name="By hand").click()
    assert fields() == ["1000", "2900"]
    page.locator("#contrast-high").fill("1950")
    page.locator("#contrast-high").press("Enter")
    page.wait_for_timeout(200)
    greys = picture(page)
    middle = greys[:, greys.shape[1] // 4]
    lit = middle[middle > 0]
    assert (lit >= 250).mean() == pytest.approx(0.5, abs=0.06)  # 1950 and above are white
    show("FITC")
    assert fields() == ["1000", "1950"]  # it stays a while with what was touched
    page.wait_for_timeout(6000)
    show("FITC")
    assert fields() == ["0.1", "99.9"]
    show("DAPI")
    assert fields() == ["1000", "1950"]
    page.keyboard.press("Escape")
    page.locator("#picture").click()
    page.keyboard.press("a")
    page.wait_for_timeout(400)
    assert fields() == ["0.1", "99.9"]


def test_refocused_alone_where_nothing_captured_is_sent(stream, watching, gradient):
    page = watching
    stream.frame(gradient())
    shows(page, 0)
    assert "--publish-raw" in banner(page, "raw").inner_text()
    assert not page.locator("#label-captured").is_visible()
    stream.frame(gradient(), gradient())
    shows(page, 1)
    banner(page, "raw").wait_for(state="detached")
    assert page.locator("#label-captured").is_visible()


def test_a_fallback_is_told_until_it_is_put_away(stream, watching):
    page = watching
    stream.run(name="torch", device="cpu", fallback_from="openvino")
    told = banner(page, "fallback")
    told.wait_for()
    assert "torch on cpu instead of openvino" in told.inner_text()
    assert text(page, "engine-name") == "torch"
    told.get_by_role("button").click()
    stream.run(name="torch", device="cpu", fallback_from="openvino")
    stream.stats()
    page.locator("#n-published").get_by_text("0").wait_for()
    assert told.count() == 0


def test_a_publisher_of_another_schema(stream, watching):
    page = watching
    stream.foreign()
    banner(page, "foreign").wait_for()
    assert "refocus/9" in banner(page, "foreign").inner_text()
    stream.run()
    banner(page, "foreign").wait_for(state="detached")


def test_a_publisher_that_is_killed_and_comes_back(page, serving, free_endpoint):
    publish = [
        *(str(BIN / "refocus-live"), "run", "--demo", "--engine", "fake", "--size", "64"),
        *("--fps", "10", "--frames", "40000", "--publish", free_endpoint, "--publish-raw"),
    ]
    with serving(free_endpoint) as (host, _):
        page.goto(f"http://{host}/")
        banner(page, "nobody").wait_for()
        assert free_endpoint in banner(page, "nobody").inner_text()
        runs = set()
        for _ in range(2):
            publisher = subprocess.Popen(publish, stderr=subprocess.DEVNULL)
            try:
                page.locator("#link[data-phase=running]").wait_for()
                assert banner(page, "nobody").count() == banner(page, "lost").count() == 0
                page.locator("#stage[data-run]").wait_for()
                until = page.locator("#stage").get_attribute("data-frame")
                page.locator(f'#stage:not([data-frame="{until}"])').wait_for()
            finally:
                publisher.send_signal(signal.SIGKILL)
                publisher.wait()
            banner(page, "lost").wait_for()
            assert "stale" in page.locator("#stage").get_attribute("class")
            runs.add(page.locator("#stage").get_attribute("data-run"))
        assert len(runs) == 2


def test_a_server_that_is_ended_and_comes_back(stream, serving, page, gradient):
    with serving(stream.endpoint) as (host, _):
        stream.wait_reader()
        page.goto(f"http://{host}/")
        page.locator("#link").wait_for()
    banner(page, "server").wait_for()
    with serving(stream.endpoint, port=int(host.rpartition(":")[2])):
        stream.wait_reader()
        banner(page, "server").wait_for(state="detached")
        stream.run()
        stream.frame(gradient(), gradient())
        shows(page, 0)


def test_a_server_that_falls_silent_is_told_and_found_again(stream, viewer, page, gradient):
    """As one that hangs, or a network that swallows everything and closes nothing."""
    silent, asked = [], []

    def between(route):
        server = route.connect_to_server()
        server.on_message(lambda message: None if silent else route.send(message))

    def answer(route):
        asked.append(route)
        if len(asked) < 3:  # slow, not gone
            route.continue_()
        else:
            route.abort()

    page.route_web_socket("**/stream", between)
    page.goto(f"http://{viewer[0]}/")
    stream.run()
    stream.frame(gradient(), gradient())
    shows(page, 0)
    page.route("**/icon.svg", answer)
    silent.append(True)
    banner(page, "server").wait_for()
    assert len(asked) == 3
    silent.clear()
    banner(page, "server").wait_for(state="detached")
    stream.frame(gradient(), gradient())
    shows(page, 1)


def test_a_wrong_token_is_refused_and_the_right_one_shows_the_page(stream, serving, page, gradient):
    with serving(stream.endpoint, "right") as (host, _):
        stream.wait_reader()
        for path in ("", "wrong/"):
            answer = page.goto(f"http://{host}/{path}")
            assert answer.status == 403
            assert "token" in page.inner_text("body")
        page.goto(f"http://{host}/right/")
        stream.run()
        stream.frame(gradient(), gradient())
        shows(page, 0)


def test_a_snapshot_is_saved(stream, watching, gradient, tmp_path):
    page = watching
    stream.frame(gradient(), np.invert(gradient()), index={"p": 1})
    shows(page, 0)
    with page.expect_download() as saved:
        page.keyboard.press("s")
    assert saved.value.suggested_filename == "refocus_first_frame000000_p1_DAPI.tif"
    saved.value.save_as(tmp_path / "frame.tif")
    with tifffile.TiffFile(tmp_path / "frame.tif") as tiff:
        captured, refocused = (one.asarray() for one in tiff.pages)
    np.testing.assert_array_equal(refocused, gradient())
    np.testing.assert_array_equal(captured, np.invert(gradient()))


def test_the_page_is_small_complete_and_forgets(stream, viewer, page, gradient, eventually):
    host, _ = viewer
    sizes = {}
    page.on("response", lambda answer: sizes.update({answer.url: len(answer.body())}))
    page.goto(f"http://{host}/")
    page.locator("#link").wait_for()
    assert all(url.startswith(f"http://{host}/") for url in sizes)
    assert 10_000 < sum(sizes.values()) < 300_000
    stream.run()
    for number in range(700):  # seconds of a run
        stream.stats(frames={"published": number})
    eventually(lambda: text(page, "n-published") == "699")
    page.wait_for_timeout(200)
    assert page.evaluate("refocusView.figures().remembered") == 600


def test_the_difference_of_clocks_is_that_of_the_fastest_ping(watching):
    offset = watching.evaluate(
        """async () => {
            const { Clock } = await import("./link.js");
            const clock = new Clock(3);
            const none = clock.offset;
            clock.add(0, 1005, 10);
            clock.add(100, 1101, 102);
            clock.add(200, 1290, 300);
            const best = clock.offset;
            for (const at of [400, 500, 600]) clock.add(at, at + 2010, at + 20);
            return [none, best, clock.offset];
        }"""
    )
    assert offset == [None, 1000, 2000]
