"""The other end of a transport, in a process of its own: notes when each frame was there.

``python -m refocus.bench.reader KIND ENDPOINT REPLIES`` reads from ``ENDPOINT`` as
``KIND`` says, and sends to ``REPLIES`` the number of each frame and the time it was complete, as
unsigned integers of 64 bits. It ends with the frame ``LAST``, or with the second run published.
"""

import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import numpy as np
import zmq

from refocus.configs import RefocusError
from refocus.stream.shared_memory import SharedPixels, SharedReader
from refocus.stream.subscriber import subscribe

NUMBER, REPLY, SHAPE = struct.Struct("<Q"), struct.Struct("<QQ"), struct.Struct("<QQ")
LAST = 2**64 - 1

PATIENCE_S = 30.0

BARE, BARE_SHARED, OURS, OURS_SHARED = "bare", "bare-shared", "ours", "ours-shared"
"""Kinds: pixels in a ZeroMQ message, or in shared memory; with nothing of ours, or as published."""


def read(kind: str, endpoint: str, replies: str) -> None:
    """Read to the end, and reply to each frame."""
    context = zmq.Context()
    socket = context.socket(zmq.PUSH)
    socket.connect(replies)
    for number in _NUMBERS[kind](kind, endpoint):
        socket.send(REPLY.pack(number, time.perf_counter_ns()))
    socket.close()
    context.term()


def _bare(kind: str, endpoint: str) -> Iterator[int]:
    context = zmq.Context()
    socket = context.socket(zmq.SUB)
    socket.setsockopt(zmq.RCVHWM, 0)
    socket.setsockopt(zmq.SUBSCRIBE, b"")
    socket.connect(endpoint)
    reader = SharedReader()
    while True:
        parts = socket.recv_multipart(copy=False)
        (number,) = NUMBER.unpack(parts[0].buffer)
        if number == LAST:
            break
        if kind == BARE_SHARED:
            height, width = SHAPE.unpack(parts[1].buffer)
            place = SharedPixels.decode(bytes(parts[2].buffer))
            if reader.read(place, (height, width), np.dtype("<u2")) is None:
                continue
        yield number
    socket.close()
    context.term()


def _published(kind: str, endpoint: str) -> Iterator[int]:
    shared = kind == OURS_SHARED
    for frame in subscribe(endpoint, runs=2, high_water=0, shared_memory=shared):
        yield frame.header.frame


_NUMBERS = {BARE: _bare, BARE_SHARED: _bare, OURS: _published, OURS_SHARED: _published}


class Replies:
    """The reader's process, started from here, and what it says.

    Attributes
    ----------
    received
        By number of the frame, when it was there.
    """

    def __init__(self, kind: str, endpoint: str) -> None:
        self.received: dict[int, int] = {}
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.PULL)
        port = self._socket.bind_to_random_port("tcp://127.0.0.1")
        module = "refocus.bench.reader"
        command = [sys.executable, "-m", module, kind, endpoint, f"tcp://127.0.0.1:{port}"]
        self._process = subprocess.Popen(command)

    def __enter__(self) -> "Replies":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        self._socket.close()
        self._context.term()

    def wait_for(self, endpoint: str, came: Callable[[float], bool]) -> None:
        """Wait until the reader has joined, of which ``came`` tells, given seconds to wait.

        Raises
        ------
        RefocusError
            It did not, for half a minute, or its process ended.
        """
        until = time.monotonic() + PATIENCE_S
        while not came(0.05):
            if self._process.poll() is not None or time.monotonic() > until:
                raise RefocusError(
                    f"endpoint {endpoint}: the benchmark's own reader does not come; "
                    "the lines above say why"
                )

    def take(self, wait_s: float) -> bool:
        """Take one, if it comes within that time."""
        if not self._socket.poll(int(wait_s * 1000)):
            return False
        number, ns = REPLY.unpack(self._socket.recv())
        self.received[number] = ns
        return True

    def take_all(self, count: int) -> None:
        """Take what comes until there are so many, or silence."""
        while len(self.received) < count and self.take(2.0):
            pass


if __name__ == "__main__":
    read(*sys.argv[1:])
