"""What a reader knows of the other end of its connection."""

import time

import pytest
import zmq

from refocus.acquisition.keys import make_keys
from refocus.acquisition.publisher import Publisher
from refocus.acquisition.subscriber import Subscription


def until(reader, state):
    """Wait until the link is as told."""
    end = time.monotonic() + 30
    while reader.link != state:
        assert time.monotonic() < end, f"still {reader.link}"
        reader.receive(0.02)


def test_a_publisher_comes_goes_and_comes_back():
    with Publisher("tcp://127.0.0.1:*") as publisher:
        endpoint = publisher.endpoint
    with Subscription(endpoint, watch_link=True) as reader:
        assert reader.link == "connecting"
        for _ in range(2):
            with Publisher(endpoint):
                until(reader, "connected")
            until(reader, "connecting")


@pytest.mark.parametrize(
    ("publishers", "readers", "state"),
    [
        ("ours/publisher", "ours/reader", "connected"),
        ("ours/publisher", "theirs/reader", "refused"),
        ("ours/publisher", None, "refused"),
        (None, "ours/reader", "refused"),
    ],
)
def test_keys_that_fit_and_keys_that_do_not(tmp_path, publishers, readers, state):
    for name in ("ours", "theirs"):
        make_keys(tmp_path / name)
    keys = [tmp_path / one if one else None for one in (publishers, readers)]
    with (
        Publisher("tcp://127.0.0.1:*", keys=keys[0]) as publisher,
        Subscription(publisher.endpoint, keys=keys[1], watch_link=True) as reader,
    ):
        until(reader, state)


def test_nothing_is_known_unless_asked_for():
    with Subscription("tcp://127.0.0.1:1") as reader:
        assert reader.link is None


def test_a_connection_outlives_what_it_does_not_understand():
    from refocus.acquisition.messages import RUN, RunHeader
    from refocus.configs import RefocusError

    context = zmq.Context()
    socket = context.socket(zmq.PUB)
    socket.bind("tcp://127.0.0.1:*")
    endpoint = socket.getsockopt(zmq.LAST_ENDPOINT).rstrip(b"\0").decode()
    run = RunHeader(run="r", next_number=0, sequence={}, camera={}, engine={}, policy="newest")
    with Subscription(endpoint, watch_link=True) as reader:
        heard = None
        while heard is None:
            socket.send_multipart([RUN, run.encode()])
            heard = reader.receive(0.05)
        socket.send_multipart([RUN, b'{"schema": "refocus/9"}'])

        def go_on():
            while reader.receive(30) == run:  # those sent before one was heard
                pass

        with pytest.raises(RefocusError, match="refocus/9"):
            go_on()
        socket.send_multipart([RUN, run.encode()])
        assert reader.receive(30) == run
    socket.close(linger=0)
    context.term()
