"""A page without a browser: what it asks of the server, and what it hears."""

import http.client
import json
import struct
from collections import defaultdict, deque
from contextlib import contextmanager

import numpy as np
from websockets.sync.client import connect


def get(host, path, **headers):
    connection = http.client.HTTPConnection(host, timeout=30)
    connection.request("GET", path, headers=headers)
    response = connection.getresponse()
    body = response.read()
    connection.close()
    return response, body


class Tab:
    """A page without a browser."""

    def __init__(self, socket):
        self.socket = socket
        self.heard = defaultdict(deque)

    def say(self, kind, **content):
        self.socket.send(json.dumps({"type": kind, **content}))

    def select(self, **wanted):
        """Choose what is shown, and wait until the server knows."""
        self.say("select", **wanted)
        self.say("ping", sent=0)
        self.hear("pong")

    def hear(self, kind):
        """Give the next message of a kind; "frame" is one of bytes."""
        while not self.heard[kind]:
            message = self.socket.recv(timeout=30)
            if isinstance(message, bytes):
                self.heard["frame"].append(self.read(message))
            else:
                content = json.loads(message)
                self.heard[content["type"]].append(content)
        return self.heard[kind].popleft()

    @staticmethod
    def read(message):
        (length,) = struct.unpack_from("<I", message)
        header = json.loads(message[4 : 4 + length])
        pixels = np.frombuffer(message[4 + length :], np.dtype(header["dtype"]).newbyteorder("<"))
        return header, pixels.reshape(-1, *header["shape"])

    def frame(self):
        header, images = self.hear("frame")
        self.say("ack", serial=header["serial"])
        return header, images


@contextmanager
def tab_at(host, root="", **headers):
    with connect(f"ws://{host}{root}/stream", additional_headers=headers, max_size=None) as socket:
        yield Tab(socket)
