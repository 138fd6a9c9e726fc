"""The real page, in a browser: it says what is so, also when the stream goes another way."""

import re
from datetime import datetime
from itertools import count

import numpy as np
import pytest

from refocus.view import stream_state
from refocus.view.places import LatestFrames

from .conftest import TOP, banner, picture, screenshot, shows, text

pytestmark = pytest.mark.slow


def test_a_pinned_place_that_a_new_run_lacks_is_told(stream, watching, gradient):
    page = watching
    for p in (0, 1):
        stream.frame(gradient(), gradient(), index={"p": p})
        shows(page, 0)
    page.locator("#select-p").select_option("right")
    shows(page, 1)
    stream.run("second", positions=["other", "else"])
    stream.frame(gradient(), gradient(), index={"p": 0})
    stream.frame(gradient(), gradient(), index={"p": 1})
    told = banner(page, "place")
    told.wait_for()
    assert "right is not in this run" in told.inner_text()
    assert "stale" in page.locator("#stage").get_attribute("class")
    assert page.locator("#stage").get_attribute("data-run") == "first"
    assert page.locator("#select-p option:checked").inner_text() == "right"
    stream.run("third", positions=["right", "left"])
    stream.frame(gradient(), gradient(), index={"p": 1})
    stream.frame(gradient(), gradient(), index={"p": 0})
    page.locator("#stage[data-run=third]").wait_for()  # it has moved, and is found by its name
    told.wait_for(state="detached")
    page.locator("#stage:not(.stale)").wait_for()
    assert page.locator("#select-p option:checked").inner_text() == "right"
    stream.run("fourth", positions=["other"])
    told.get_by_role("button", name="Follow the run").click()
    stream.frame(gradient(), gradient())
    page.locator("#stage[data-run=fourth]").wait_for()
    told.wait_for(state="detached")


def test_the_last_picture_of_a_run_is_not_that_of_the_next(stream, watching, gradient):
    page = watching
    stream.frame(gradient(), gradient())
    shows(page, 0)
    stream.run("second")
    page.locator("#stage.stale").wait_for()
    assert text(page, "stand") == "of the run before"
    stream.frame(gradient(), gradient())
    page.locator("#stage[data-run=second]:not(.stale)").wait_for()
    assert not page.locator("#stand").is_visible()


def test_a_place_whose_picture_is_not_kept_shows_no_other_as_its_own(  # noqa: PLR0917
    stream, serving, page, gradient, eventually, monkeypatch
):
    monkeypatch.setattr(stream_state, "LatestFrames", lambda _: LatestFrames(budget=1))
    with serving(stream.endpoint) as (host, _):
        page.goto(f"http://{host}/")
        page.locator("#link[data-phase=idle]").wait_for()
        stream.run()
        stream.frame(gradient(), gradient(), index={"p": 1})
        shows(page, 0)
        stream.frame(gradient(), gradient(), index={"p": 0})
        eventually(lambda: page.locator("#grid button").count() == 2)
        page.locator("#grid button").first.click()
        shows(page, 1)
        page.locator("#grid button").last.click()
        eventually(lambda: text(page, "stand") == "of the place before")
        assert "stale" in page.locator("#stage").get_attribute("class")
        stream.frame(gradient(), gradient(), index={"p": 1})
        shows(page, 2)
        eventually(lambda: not page.locator("#stand").is_visible())


def test_a_channel_that_has_not_come_in_a_new_run_is_told(stream, watching, gradient):
    page = watching
    for c in ("DAPI", "FITC"):
        stream.frame(gradient(), gradient(), channel=c)
        shows(page, 0)
    page.locator("#select-c").select_option("FITC")
    shows(page, 1)
    stream.run("second")
    stream.frame(gradient(), gradient(), channel="DAPI")
    told = banner(page, "place")
    told.wait_for()
    assert told.inner_text().startswith("Nothing of FITC in this run yet.")
    stream.frame(gradient(), gradient(), channel="FITC")
    page.locator("#stage[data-run=second]").wait_for()
    told.wait_for(state="detached")


@pytest.mark.parametrize("gone", [False, True], ids=["the publisher stays", "and goes"])
def test_a_run_that_is_over_is_told_with_its_accounts(stream, watching, gradient, gone, eventually):
    page = watching
    stream.frame(gradient(), gradient())
    stream.stats(queued=3)
    shows(page, 0)
    eventually(lambda: "10.0 /s" in footer(page))
    assert text(page, "n-queue") == "3 of 8"
    stream.stats(end=True, planned=3, frames={"received": 2, "dropped": 1})
    if gone:
        stream.socket.close()
    told = banner(page, "over")
    told.wait_for()
    assert told.inner_text().startswith(
        "The run is over: 1 frame published of 2 received, 1 dropped; 1 of 3 planned never came."
    )
    page.wait_for_timeout(2500)  # whoever is gone for a while is gone
    assert page.locator("#link").inner_text() == "run over"
    assert banner(page, "nobody").count() == 0
    assert "/s" not in footer(page)
    assert (text(page, "n-queue"), text(page, "n-fps")) == ("–", "–")


def footer(page):
    return page.locator("#timeline").get_attribute("aria-label")


@pytest.mark.parametrize("how", ["flicker", "peek"])
def test_the_verdict_is_not_over_the_captured_picture(stream, watching, gradient, how, eventually):
    page = watching
    stream.frame(gradient(), gradient(), trust={"verdict": "beyond", "share": 0.0})
    shows(page, 0)
    badge = page.locator("#verdict")
    assert badge.is_visible()
    if how == "flicker":
        page.keyboard.press("3")
        page.keyboard.press("Space")
    else:
        page.keyboard.down("c")
    eventually(lambda: page.locator("#label-captured").is_visible())
    eventually(lambda: not badge.is_visible())
    if how == "flicker":
        page.keyboard.press("Space")
    else:
        page.keyboard.up("c")
    eventually(badge.is_visible)


def heard(stream, page):
    """Let the page hear of the run, which else counts as lost, and draw."""
    page.wait_for_timeout(300)
    stream.stats()
    page.locator("#link[data-phase=running]").wait_for()
    page.wait_for_timeout(300)


@pytest.mark.parametrize(
    ("mode", "low", "high", "words"),
    [
        ("By hand", "2000", "1000", "from has to be below to"),
        ("By hand", "1000", "1000", "from has to be below to"),
        ("By hand", "bright", "1000", "not a number"),
        ("Percentile", "99", "1", "from has to be below to"),
    ],
)
def test_limits_the_wrong_way_round_are_told(  # noqa: PLR0917
    stream, watching, mode, low, high, words
):
    page = watching
    stream.frame(np.full((32, 32), 1500, np.uint16), np.full((32, 32), 900, np.uint16))
    shows(page, 0)
    page.get_by_role("button", name=mode).click()
    page.wait_for_timeout(200)
    before = picture(page)
    page.locator("#contrast-low").fill(low)
    page.locator("#contrast-high").fill(high)
    page.locator("#contrast-high").press("Enter")
    note = page.locator("#contrast-note")
    assert words in note.inner_text()
    assert page.locator("#contrast-high").get_attribute("aria-invalid") == "true"
    heard(stream, page)
    np.testing.assert_array_equal(picture(page), before)
    page.locator("#contrast-low").fill("1")
    page.locator("#contrast-high").fill("98")
    page.locator("#contrast-high").press("Enter")
    assert note.inner_text() == ""
    assert page.locator("#contrast-high").get_attribute("aria-invalid") == "false"


def test_one_handle_stops_at_the_other(stream, watching, gradient):
    page = watching
    stream.frame(gradient(), gradient())
    shows(page, 0)
    page.wait_for_timeout(300)
    box = page.locator("#histogram").bounding_box()
    page.mouse.move(box["x"] + 5, box["y"] + 20)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] - 1, box["y"] + 20, steps=3)
    page.mouse.up()
    low, high = (int(page.locator(f"#contrast-{end}").input_value()) for end in ("low", "high"))
    assert low < high
    assert high > 0.99 * TOP  # it was not pushed along


def test_a_lost_graphics_card_is_told_and_done_without(stream, viewer, page, gradient):
    stream.run()
    page.goto(f"http://{viewer[0]}/?painter=webgl")
    stream.frame(gradient(), gradient())
    shows(page, 0)
    page.wait_for_timeout(300)
    before = picture(page)
    assert before.max() > 200
    page.evaluate(
        "document.querySelector('#picture').getContext('webgl2')"
        ".getExtension('WEBGL_lose_context').loseContext()"
    )
    banner(page, "painter").wait_for()
    assert page.locator("html").get_attribute("data-painter") == "canvas"
    banner(page, "painter").get_by_role("button").click()
    heard(stream, page)
    assert np.abs(picture(page) - before).mean() < 3
    stream.frame(gradient(), np.invert(gradient()))
    shows(page, 1)
    page.mouse.move(300, 300)
    assert "captured" in text(page, "readout")


def test_a_token_that_changed_is_told(stream, serving, page):
    with serving(stream.endpoint, "before") as (host, _):
        stream.wait_reader()
        page.goto(f"http://{host}/before/")
        page.locator("#link[data-phase=idle]").wait_for()
    with serving(stream.endpoint, "after", port=int(host.rpartition(":")[2])):
        told = banner(page, "token")
        told.wait_for()
        assert "by itself" not in told.inner_text()
        assert "Open the address that refocus-view printed" in told.inner_text()
        assert banner(page, "server").count() == 0


def test_times_are_those_of_the_clock_on_the_wall(stream, viewer, browser, gradient, eventually):
    context = browser.new_context(
        timezone_id="Asia/Kathmandu", viewport={"width": 800, "height": 900}
    )
    page = context.new_page()
    page.goto(f"http://{viewer[0]}/")
    stream.run()
    stream.frame(gradient(), gradient(), captured_utc="2025-06-01T12:00:00.250000+00:00")
    shows(page, 0)
    eventually(lambda: "17:45:00.250" in text(page, "frame-info"))
    assert "12:00:00.250" in page.locator("#frame-info").get_attribute("title")
    tip = hover_newest(stream, page, eventually, "queue")
    minute = re.search(r"\d\d:\d\d", tip).group()
    here = page.evaluate("new Date().toLocaleTimeString('en-GB', {timeZone: 'Asia/Kathmandu'})")
    apart = datetime.strptime(here[:5], "%H:%M") - datetime.strptime(minute, "%H:%M")
    assert abs(apart.total_seconds()) <= 120
    context.close()


def hover_newest(stream, page, eventually, words):
    """Point at the end of the time line until its tip has these words; give what it says."""
    seconds = count(1)
    box = page.locator("#timeline").bounding_box()

    def tip():
        counts = dict.fromkeys(("dropped", "deferred", "failed"), 123_456 * next(seconds))
        stream.stats(frames=counts, queued=8)
        page.wait_for_timeout(300)
        page.mouse.move(box["x"] + box["width"] - 14, box["y"] + 30)
        page.mouse.move(box["x"] + box["width"] - 15, box["y"] + 30)
        said = page.locator("#tip").is_visible() and text(page, "tip")
        return said and words in said and said

    return eventually(tip)


@pytest.mark.parametrize("width", [360, 1024])
def test_the_tip_of_the_time_line_is_whole(stream, watching, width, eventually):
    page = watching
    page.set_viewport_size({"width": width, "height": 700})
    hover_newest(stream, page, eventually, "123456 failed")
    box = page.locator("#tip").bounding_box()
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= width
    assert page.evaluate("tip.scrollWidth <= tip.clientWidth")


def test_red_on_black_is_red_everywhere(stream, watching, gradient):
    page = watching
    stream.frame(gradient(), gradient(), trust={"verdict": "in-focus", "share": 0.0})
    stream.stats(
        verdicts={"in-focus": 3, "refocused": 3, "beyond": 3, "unfamiliar": 3},
        frames={"dropped": 1, "deferred": 1, "failed": 1},
        queued=8,
        alarm="full",
    )
    shows(page, 0)
    stream.frame(gradient())  # and the banner that goes with it
    banner(page, "raw").wait_for()
    page.keyboard.press("n")
    page.wait_for_timeout(500)
    shot = screenshot(page)
    assert shot[..., 0].max() > 150
    assert shot[..., 1:].max() < 110
    assert (shot[..., 1:].max(-1) <= shot[..., 0] + 6).all()
    page.keyboard.press("n")
    page.wait_for_timeout(500)
    assert screenshot(page)[..., 1].max() > 150
