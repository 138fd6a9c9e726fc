"""The real page, in a browser, as a person uses it: pictures, contrast, where one looks."""

import re

import numpy as np
import pytest

from .conftest import TOP, banner, fits, picture, ramp, shows, text

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("painter", ["canvas", "webgl"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_captured_and_refocused_side_by_side(  # noqa: PLR0917
    stream, viewer, page, eventually, painter, dtype
):
    stream.run()
    page.goto(f"http://{viewer[0]}/?painter={painter}")
    assert page.locator("html").get_attribute("data-painter") == painter
    captured = ramp(32, dtype)
    stream.frame(np.invert(captured), captured)
    shows(page, 0)
    page.get_by_text("Full", exact=True).click()

    def side_by_side(left, right):
        greys = picture(page)
        half = greys.shape[1] // 2
        return fits(greys[:, : half - 1], left) and fits(greys[:, half + 1 :], right)

    rising = np.linspace(0, 1, 32)
    eventually(lambda: side_by_side(rising, 1 - rising))
    # a picture of another size, of another depth, is as good
    other = ramp(16, np.uint16 if dtype is np.uint8 else np.uint8)
    stream.frame(other, np.invert(other))
    shows(page, 1)
    rising = np.linspace(0, 1, 16)
    eventually(lambda: side_by_side(1 - rising, rising))


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

    def told():
        stream.frame(refocused, refocused + 7)  # both are of the last three seconds
        latency, shown = text(page, "n-latency"), text(page, "n-shown")
        return re.fullmatch(r"\d+ ms", latency) and re.fullmatch(r"\d+\.\d /s", shown)

    eventually(told)
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
        stream.stats()  # or the run would count as lost
        page.locator("#link[data-phase=running]").wait_for()
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
        ("blank", "□ blank"),
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


def test_by_default_the_page_holds_still(stream, watching, gradient):
    page = watching
    stream.frame(gradient(), gradient(), index={"p": 0})
    shows(page, 0)
    page.evaluate(
        "window.shown = []; new MutationObserver(() => shown.push(stage.dataset.frame))"
        ".observe(stage, {attributeFilter: ['data-frame']})"
    )
    for p, c in [(0, "FITC"), (1, "DAPI"), (1, "FITC"), (0, "DAPI")]:
        stream.frame(gradient(), gradient(), index={"p": p}, channel=c)
    shows(page, 4)
    assert page.evaluate("shown") == ["4"]
    stream.run("second", positions=["left", "right"])
    stream.frame(gradient(), gradient(), index={"p": 1}, channel="FITC")
    page.locator("#stage[data-run=second]").wait_for()  # nobody chose the place
    stream.frame(gradient(), gradient(), index={"p": 0}, channel="DAPI")
    stream.frame(gradient(), gradient(), index={"p": 1}, channel="FITC")
    shows(page, 2)


def test_the_selectors_follow_or_stay(stream, watching, gradient, eventually):
    page = watching
    for p, c in [(0, "DAPI"), (1, "FITC")]:
        stream.frame(gradient(), gradient(), index={"p": p}, channel=c)
        shows(page, 0)
    eventually(lambda: page.locator("#select-p option").all_inner_texts()[1:] == ["left", "right"])
    assert not page.locator("#select-z").is_visible()  # there is but one plane
    page.get_by_role("button", name="Follow the run").click()
    shows(page, 1)
    eventually(lambda: page.locator("#select-p option").first.inner_text() == "follow: right")
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
    assert text(page, "pin") == "Follow the run"
    page.keyboard.press("p")
    stream.frame(gradient(), gradient(), index={"p": 0}, channel="DAPI")
    shows(page, 7)
    assert text(page, "pin") == "Stay here"


def test_contrast_by_hand_and_by_percentile_for_each_channel(stream, watching):
    page = watching
    page.goto(f"{page.url}?follow")  # every channel is shown as it comes
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
