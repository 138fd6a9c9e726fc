"""A publisher that says what a test wants, and the viewer in front of it."""

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import zmq

from refocus.stream import messages
from refocus.view.listener import Listener
from refocus.view.page.server import Server, build_app, listen

PATIENCE = 30.0
ENGINE = {
    "name": "openvino",
    "model": "refocus-compact",
    "sha256": "ab",
    "precision": "bf16",
    "device": "CPU",
    "card": {"version": "1"},
}


def eventually(condition: Callable[[], Any], what: str = "") -> Any:
    """Wait until something is true, and give it."""
    until = time.monotonic() + PATIENCE
    while not (found := condition()):
        assert time.monotonic() < until, f"never so: {what or condition}"
        time.sleep(0.02)
    return found


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Stream:
    """Publishes by hand: whatever it is told to, and nothing by itself."""

    def __init__(self, endpoint: str = "tcp://127.0.0.1:*") -> None:
        self._context = zmq.Context()
        self.socket = self._context.socket(zmq.XPUB)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.setsockopt(zmq.XPUB_VERBOSER, 1)  # hear of every reader
        self.socket.bind(endpoint)
        self.endpoint = self.socket.getsockopt(zmq.LAST_ENDPOINT).rstrip(b"\0").decode()
        self.id = "first"
        self.number = 0

    def wait_reader(self) -> None:
        """Wait until a reader has subscribed to everything it wants."""
        while self.socket.poll(int(PATIENCE * 1e3)):
            if messages.READERS in self.socket.recv():
                return
        raise AssertionError("nobody came")

    def send(self, topic: bytes, header: messages.Header, *pixels: Any) -> None:
        self.socket.send_multipart([topic, header.encode(), *pixels])

    def run(
        self, run: str | None = None, positions: tuple[str, ...] = ("left", "right"), **engine: Any
    ) -> None:
        if run is not None:
            self.id, self.number = run, 0
        header = messages.RunHeader(
            run=self.id,
            next_number=self.number,
            sequence={"stage_positions": [{"name": name} for name in positions]},
            camera={},
            engine={**ENGINE, **engine},
            policy="newest",
        )
        self.send(messages.RUN, header)

    def frame(self, pixels: Any, captured: Any = None, **header: Any) -> None:
        """Send a frame; its pixels are little-endian integers of 8 or 16 bits."""
        filled = {
            "run": self.id,
            "number": self.number,
            "frame": self.number,
            "refocused": True,
            "source": "",
            "index": {"t": self.number},
            "channel": "DAPI",
            "position_um": {"x": 1.0, "z": 4.5},
            "pixel_size_um": 0.5,
            "exposure_ms": 10.0,
            "camera": "Camera",
            "shape": pixels.shape,
            "dtype": pixels.dtype.name,
            "bit_depth": 8 * pixels.dtype.itemsize,
            "captured_utc": utc_now(),
            "times_ms": {"queued": 0.5, "engine": 4.0, "published": 5.0},
        }
        told = messages.FrameHeader.model_validate(filled | header)
        images = [pixels] if captured is None else [pixels, captured]
        self.send(messages.FRAME, told, *(image.tobytes() for image in images))
        self.number += 1

    def stats(self, end: bool = False, **changes: Any) -> None:
        frames = {"received": self.number, "published": self.number} | changes.pop("frames", {})
        filled = {
            "run": self.id,
            "next_number": self.number,
            "frames": frames,
            "queued": 0,
            "capacity": 8,
            "fps": 10.0,
            "latency_ms": {"p50": 5.0, "p99": 6.0, "max": 7.0},
            "engine_ms": {"p50": 4.0, "p99": 4.5},
        }
        kind = messages.EndHeader if end else messages.StatsHeader
        self.send(messages.END if end else messages.STATS, kind.model_validate(filled | changes))

    def foreign(self) -> None:
        """Announce a run in a schema of the future."""
        self.socket.send_multipart([messages.RUN, json.dumps({"schema": "refocus/9"}).encode()])

    def close(self) -> None:
        self.socket.close()
        self._context.term()


def utc_now() -> str:
    from datetime import UTC, datetime

    return datetime.now(UTC).isoformat()


def gradient(shape: tuple[int, int] = (64, 64), dtype: Any = np.uint16) -> Any:
    """Give a picture that is dark on the left and bright on the right."""
    top = np.iinfo(dtype).max
    return np.broadcast_to(np.linspace(0, top, shape[1]), shape).astype(dtype)


@pytest.fixture(name="eventually")
def _eventually() -> Callable[..., Any]:
    return eventually


@pytest.fixture(name="serving")
def _serving() -> Callable[..., Any]:
    return serving


@pytest.fixture
def free_endpoint() -> str:
    return f"tcp://127.0.0.1:{free_port()}"


@pytest.fixture(name="gradient")
def _gradient() -> Callable[..., Any]:
    return gradient


@pytest.fixture
def stream() -> Iterator[Stream]:
    stream = Stream()
    yield stream
    stream.close()


@contextmanager
def serving(
    endpoint: str, token: str | None = None, port: int = 0
) -> Iterator[tuple[str, Listener]]:
    """Serve the viewer; give its host and port, and its feed."""
    with Listener(endpoint) as feed:
        listener = listen("127.0.0.1", port)
        port = listener.getsockname()[1]
        server = Server(build_app(feed, token))
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        try:
            eventually(lambda: server.started)
            yield f"127.0.0.1:{port}", feed
        finally:
            server.should_exit = True
            thread.join(PATIENCE)
            listener.close()


@pytest.fixture
def viewer(stream: Stream) -> Iterator[tuple[str, Listener]]:
    with serving(stream.endpoint) as served:
        stream.wait_reader()
        yield served
