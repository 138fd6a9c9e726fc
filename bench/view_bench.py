#!/usr/bin/env python3
"""Measure the viewer as a person meets it: the real page, in a browser, before a real publisher.

    .venv/bin/python -m refocus.bench.view_bench --json view_bench.json

Starts ``refocus-live run --demo --engine fake`` (every frame is handed on at once, inverted;
captured and refocused pixels are published), ``refocus-view``, and Chromium without a screen, all
on this machine; then asks the page how many pictures it has shown, and how long each took from
capture to screen.

The browser is asked through its debugging port, and nothing else of that is used: a test tool that
follows the network would copy every frame once more.
"""

import argparse
import json
import os
import platform
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect

from refocus.bench.report_command import count, run_report

BIN = Path(sys.executable).parent
ROOT = Path(__file__).resolve().parents[1]
FLAGS = [
    *("--headless", "--remote-debugging-port=0", "--hide-scrollbars"),
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]
SETTLE_S = 4.0
READY = "performance.getEntriesByName('ready')[0]?.startTime ?? null"


class Page:
    """The one page of a browser, over the DevTools protocol."""

    def __init__(self, debugger: ClientConnection) -> None:
        self._socket = debugger
        self._asked = 0

    def ask(self, method: str, **params: Any) -> dict[str, Any]:
        """Call a method, and give its result."""
        self._asked += 1
        self._socket.send(json.dumps({"id": self._asked, "method": method, "params": params}))
        while True:
            answer: dict[str, Any] = json.loads(self._socket.recv(timeout=60))
            if answer.get("id") == self._asked:
                return dict(answer["result"])

    def open(self, address: str) -> None:
        """Go to an address."""
        self.ask("Page.navigate", url=address)

    def evaluate(self, expression: str) -> Any:
        """Give the value of an expression; None where it has none, or fails."""
        answer = self.ask("Runtime.evaluate", expression=expression, returnByValue=True)
        return answer["result"].get("value")


def main() -> None:
    """Measure, print, and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=count, default=1024, help="side of a frame, pixels")
    parser.add_argument("--fps", type=float, default=30.0, help="of the camera")
    parser.add_argument("--seconds", type=float, default=15.0, help="how long to measure")
    parser.add_argument("--painter", choices=["auto", "webgl", "canvas"], default="auto")
    parser.add_argument("--window", default="1440x900", help="of the browser, CSS pixels")
    parser.add_argument("--browser", default=shutil.which("chromium"), help="path of a Chromium")
    parser.add_argument("--json", type=Path, help="write the figures here, too")
    given = parser.parse_args()
    if not given.browser:
        parser.error("no Chromium found; install it (apt-get install chromium), or --browser PATH")
    figures = measure(given)
    print(json.dumps(figures, indent=2))
    if given.json:
        given.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


def measure(given: argparse.Namespace) -> dict[str, Any]:
    """Give all figures."""
    seconds = given.seconds + SETTLE_S + 30
    endpoint = f"tcp://127.0.0.1:{free_port()}"
    with ExitStack() as stack:
        viewer = stack.enter_context(running("refocus-view", endpoint, "--port", "0"))
        address = viewer.stdout.readline().strip() if viewer.stdout else ""
        page = stack.enter_context(opened(given))
        loads = [load(page, address) for _ in range(5)]
        query = "" if given.painter == "auto" else f"?painter={given.painter}"
        page.open(address + query)
        stack.enter_context(
            running(
                *("refocus-live", "run", "--demo", "--engine", "fake", "--publish-raw"),
                *("--size", str(given.size), "--fps", str(given.fps)),
                *("--frames", str(4 * int(given.fps * seconds / 4))),
                *("--publish", endpoint, "--wait-subscribers", "1"),
            )
        )
        wait_for(page, "window.refocusView?.figures().pictures > 0")
        time.sleep(SETTLE_S)
        shown = watch(page, given.seconds)
        return {
            "machine": f"{os.cpu_count()} cores, {platform.machine()}, {platform.system()}",
            "load_before": round(os.getloadavg()[0], 2),
            "browser": page.ask("Browser.getVersion")["product"],
            "painter": page.evaluate("document.documentElement.dataset.painter"),
            "page_bytes": sum(file.stat().st_size for file in (ROOT / "view/static").iterdir()),
            "ready_ms": sorted(round(one) for one in loads),
            "frame": f"{given.size}x{given.size} uint16, captured and refocused",
            "camera_fps": given.fps,
            **shown,
        }


def load(page: Page, address: str) -> float:
    """Open the page anew, and tell after how many ms it was ready."""
    page.open("about:blank")
    page.open(address)
    wait_for(page, f"({READY}) !== null")
    return float(page.evaluate(READY))


def wait_for(page: Page, condition: str) -> None:
    """Wait until it is true on the page, whose policy keeps Playwright from waiting in there."""
    until = time.monotonic() + 60
    while not page.evaluate(condition):
        if time.monotonic() > until:
            raise TimeoutError(f"not so within a minute: {condition}")
        time.sleep(0.02)


def watch(page: Page, seconds: float) -> dict[str, Any]:
    """Count pictures, and gather their latencies."""
    latencies: dict[float, float] = {}
    before = page.evaluate("[performance.now(), refocusView.figures().pictures]")
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        time.sleep(1.0)
        for one in page.evaluate("refocusView.drawn"):
            if one["latency_ms"] is not None:
                latencies[one["at"]] = one["latency_ms"]
    after = page.evaluate("[performance.now(), refocusView.figures().pictures]")
    known = sorted(latencies.values())
    return {
        "pictures_per_s": round((after[1] - before[1]) / (after[0] - before[0]) * 1e3, 2),
        "capture_to_screen_ms": {
            "p50": round(known[len(known) // 2], 1),
            "p99": round(known[int(len(known) * 0.99)], 1),
            "n": len(known),
        },
        "stream": {
            name: page.evaluate(f"document.getElementById('n-{name}').textContent")
            for name in ("fps", "dropped", "failed", "lost")
        },
    }


@contextmanager
def running(command: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Keep one of our commands running."""
    process = subprocess.Popen(
        [str(BIN / command), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        yield process
    finally:
        process.terminate()
        process.communicate(timeout=30)


def free_port() -> int:
    """Find a port that nobody uses."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def opened(given: argparse.Namespace) -> Iterator[Page]:
    """Open a browser without a screen."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        size = f"--window-size={given.window.replace('x', ',')}"
        command = [given.browser, *FLAGS, size, f"--user-data-dir={profile}", "about:blank"]
        nowhere = subprocess.DEVNULL
        browser = subprocess.Popen(command, stdout=nowhere, stderr=nowhere)
        try:
            told = Path(profile) / "DevToolsActivePort"
            while not told.exists() or not told.read_text(encoding="utf-8").strip():
                time.sleep(0.05)
            port = int(told.read_text(encoding="utf-8").split()[0])
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/json") as answer:
                pages = [one for one in json.load(answer) if one["type"] == "page"]
            with connect(pages[0]["webSocketDebuggerUrl"], max_size=None) as debugger:
                yield Page(debugger)
        finally:
            browser.terminate()
            browser.wait(30)


if __name__ == "__main__":
    run_report(main)
