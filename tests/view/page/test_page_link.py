"""The real page, in a browser: what it says of the link, the run and itself."""

import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile

from .conftest import banner, shows, text

pytestmark = pytest.mark.slow

BIN = Path(sys.executable).parent


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
    assert saved.value.suggested_filename == "refocus_first_frame000000_p1_DAPI.ome.tif"
    saved.value.save_as(tmp_path / "frame.tif")
    with tifffile.TiffFile(tmp_path / "frame.tif") as tiff:
        captured, refocused = tiff.asarray()
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
            const { Clock } = await import("./websocket.js");
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
