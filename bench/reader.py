"""The other end of a transport, in a process of its own: notes when each frame was there.

``python -m refocus.bench.reader KIND ENDPOINT REPLIES`` reads from ``ENDPOINT`` as
``KIND`` says, and sends to ``REPLIES`` the number of each frame and the time it was complete, as
unsigned integers of 64 bits. It ends with the frame ``LAST``, or with the second run published.
"""

import struct
import sys
import time
from collections.abc import Iterator

import numpy as np
import zmq

from refocus.stream.shared_memory import SharedPixels, SharedReader
from refocus.stream.subscriber import subscribe

NUMBER, REPLY, SHAPE = struct.Struct("<Q"), struct.Struct("<QQ"), struct.Struct("<QQ")
LAST = 2**64 - 1

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

if __name__ == "__main__":
    read(*sys.argv[1:])
