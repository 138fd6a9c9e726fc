"""The installed command, in a process of its own, as a user runs it."""

import json
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import pytest
from websockets.sync.client import connect

from refocus.view.places import KEPT_BYTES

COMMAND = str(Path(sys.executable).parent / "refocus-view")
PATIENCE = 120.0


@contextmanager
def refocus_view(*arguments):
    """Run the command; give its process, and the address that it prints."""
    process = subprocess.Popen(
        [COMMAND, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process, process.stdout.readline().strip()
    finally:
        process.kill()
        process.communicate()


def refused(*arguments):
    done = subprocess.run(
        [COMMAND, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 2
    assert done.stdout == ""
    (line,) = done.stderr.strip().splitlines()
    return line


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_serves_until_it_is_asked_to_end(free_endpoint, number, status):
    with refocus_view(free_endpoint, "--port", 0) as (process, address):
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/", address)
        page = urllib.request.urlopen(address, timeout=PATIENCE).read().decode()
        assert "<title>ReFocus live</title>" in page
        with connect(address.replace("http", "ws") + "stream") as tab:  # an open tab holds it not
            assert json.loads(tab.recv(timeout=PATIENCE))["endpoint"] == free_endpoint
            process.send_signal(number)
            assert process.wait(PATIENCE) == status
        assert process.stderr.read() == ""


def test_beyond_loopback_the_address_has_a_token(free_endpoint):
    with refocus_view(free_endpoint, "--port", 0, "--host", "0.0.0.0") as (_, address):
        port, token = re.fullmatch(r"http://[\w.-]+:(\d+)/([\w-]{20,})/", address).groups()
        local = f"http://127.0.0.1:{port}/"
        assert urllib.request.urlopen(f"{local}{token}/", timeout=PATIENCE).status == 200
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(local, timeout=PATIENCE)


def test_the_demo_shows_captured_and_refocused_frames_and_ends_with_the_viewer():
    with refocus_view("--demo", "--engine", "fake", "--port", 0, "--no-open") as (process, address):
        with connect(address.replace("http", "ws") + "stream", max_size=KEPT_BYTES) as tab:
            message = ""
            while not isinstance(message, bytes):
                message = tab.recv(timeout=PATIENCE)
        assert b'"has_raw": true' in message
        assert len(message) > 2 * 2 * 512 * 512
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        demos = [Path(f"/proc/{child}") for child in children.read_text().split()]
        assert len(demos) == 1
        process.kill()  # even so, the microscope does not stay behind
        process.wait()
        until = time.monotonic() + PATIENCE
        while any("demo" in _command_of(demo) for demo in demos):
            assert time.monotonic() < until
            time.sleep(0.05)


def _command_of(process):
    try:
        return (process / "cmdline").read_text()
    except OSError:
        return ""


if not Path("/proc/self/task").exists():
    test_the_demo_shows_captured_and_refocused_frames_and_ends_with_the_viewer = pytest.mark.skip(
        reason="needs /proc, to see which processes there are"
    )(test_the_demo_shows_captured_and_refocused_frames_and_ends_with_the_viewer)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["nonsense"], "endpoint nonsense: not one to connect to"),
        (["--demo", "tcp://127.0.0.1:5556"], "--demo has an endpoint of its own; leave ENDPOINT"),
        (["--engine", "fake"], "--engine is for --demo"),
        (["--host", "203.0.113.5"], "--host 203.0.113.5: not an address of this computer"),
        (["--keys", "nowhere", "--port", "0"], "no such key; use the folder that"),
        (["--port", "70000"], "Invalid value for '--port'"),
        (["--prot", "8000"], "See `refocus-view --help`."),
    ],
)
def test_bad_input_is_one_line(arguments, line):
    assert line in refused(*arguments)


def test_a_port_that_is_taken(free_endpoint):
    with refocus_view(free_endpoint, "--port", 0) as (_, address):
        port = address.rstrip("/").rpartition(":")[2]
        assert f"port {port}: in use by another program" in refused("--port", port)


def test_help_has_examples():
    done = subprocess.run([COMMAND, "--help"], capture_output=True, text=True, check=True)
    assert "refocus-view --demo" in done.stdout
    assert "--host" in done.stdout
