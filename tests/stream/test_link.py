"""What a reader knows of the other end of its connection."""

import logging
import socket
import threading
import time
from contextlib import closing, contextmanager, suppress

import pytest
import zmq

from refocus.acquisition.sinks.publisher import Publisher
from refocus.configs import RefocusError
from refocus.stream import link, subscriber
from refocus.stream.keys import make_keys
from refocus.stream.subscriber import Subscription, subscribe


def until(reader, state):
    """Wait until the link is as told."""
    end = time.monotonic() + 30
    while reader.link != state:
        assert time.monotonic() < end, f"still {reader.link}"
        reader.receive(0.02)


def test_a_publisher_comes_goes_and_comes_back():
    with Publisher("tcp://127.0.0.1:*") as publisher:
        endpoint = publisher.endpoint
    with Subscription(endpoint) as reader:
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
        Subscription(publisher.endpoint, keys=keys[1]) as reader,
    ):
        until(reader, state)


@pytest.mark.parametrize(
    ("readers", "whom"),
    [(None, "a reader without keys"), ("theirs/reader", "the keys in .*theirs")],
)
def test_who_is_refused_is_told_of_it(tmp_path, caplog, readers, whom):
    for name in ("ours", "theirs"):
        make_keys(tmp_path / name)
    keys = tmp_path / readers if readers else None
    with (
        Publisher(
            "tcp://127.0.0.1:*", keys=tmp_path / "ours/publisher", linger_seconds=0.1
        ) as publisher,
        subscribe(publisher.endpoint, timeout=0.01, keys=keys) as reader,
        caplog.at_level(logging.WARNING),
    ):
        until(reader, "refused")
        with pytest.raises(RefocusError, match=f"refuses {whom}.*give the folder"):
            next(iter(reader))
    assert caplog.text.count("trying again") == 1


def test_whose_keys_are_made_in_mid_run_is_let_in(tmp_path, caplog):
    ours, first = make_keys(tmp_path)
    with (
        Publisher("tcp://127.0.0.1:*", keys=ours, linger_seconds=0.1) as publisher,
        caplog.at_level(logging.WARNING),
    ):
        _, second = make_keys(tmp_path, "second")
        with Subscription(publisher.endpoint, keys=second) as reader:
            until(reader, "connected")
        (ours / "readers" / "second.key").unlink()
        with Subscription(publisher.endpoint, keys=second) as reader:
            until(reader, "refused")
        (ours / "readers" / "broken.key").write_text("nothing")
        with Subscription(publisher.endpoint, keys=first) as reader:
            until(reader, "connected")  # one key that is broken shuts nobody else out
        for key in (ours / "readers").iterdir():
            key.unlink()
        with Subscription(publisher.endpoint, keys=first) as reader:
            until(reader, "refused")  # the last one, too
    assert "broken.key: holds no public key" in caplog.text


def test_a_connection_outlives_what_it_does_not_understand():
    from refocus.configs import RefocusError
    from refocus.stream.messages import RUN, RunHeader

    context = zmq.Context()
    socket = context.socket(zmq.PUB)
    socket.bind("tcp://127.0.0.1:*")
    endpoint = socket.getsockopt(zmq.LAST_ENDPOINT).rstrip(b"\0").decode()
    run = RunHeader(run="r", next_number=0, sequence={}, camera={}, engine={}, policy="newest")
    with Subscription(endpoint) as reader:
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


@contextmanager
def stranger(kind, endpoint):
    """Put something at an endpoint that is no publisher."""
    with zmq.Context() as context, context.socket(kind) as other:
        other.linger = 0
        other.bind(endpoint)
        yield


@pytest.mark.parametrize("first", ["keys", zmq.PUSH, zmq.REP])
def test_a_publisher_is_found_whatever_was_there_first(tmp_path, monkeypatch, first):
    monkeypatch.setattr(link, "RENEW_S", 0.3)
    make_keys(tmp_path)
    with Publisher("tcp://127.0.0.1:*") as publisher:
        endpoint = publisher.endpoint
    locked = first == "keys"
    other = (
        Publisher(endpoint, keys=tmp_path / "publisher") if locked else stranger(first, endpoint)
    )
    with other, Subscription(endpoint) as reader:
        end = time.monotonic() + 1.5
        while time.monotonic() < end:
            reader.receive(0.02)
            assert reader.link != "connected"
        other.__exit__(None, None, None)
        with Publisher(endpoint):
            until(reader, "connected")


class Cable:
    """Carries what goes between a reader and a publisher, until it is cut."""

    def __init__(self, endpoint):
        self._to = ("127.0.0.1", int(endpoint.rpartition(":")[2]))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.endpoint = f"tcp://127.0.0.1:{self._listener.getsockname()[1]}"
        self.made = 0
        self._ends = []
        self._cut = threading.Event()
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def cut(self):
        """Carry nothing more of the connections there are, and close none."""
        self._cut.set()
        self._cut = threading.Event()

    def close(self):
        for end in (self._listener, *self._ends):
            with suppress(OSError):  # wakes who waits on it
                end.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        for end in (self._listener, *self._ends):
            end.close()

    def _accept(self):
        with suppress(OSError):
            while True:
                ends = [self._listener.accept()[0], socket.create_connection(self._to)]
                self._ends += ends
                self.made += 1
                for way in (ends, ends[::-1]):
                    carrier = threading.Thread(target=self._carry, args=(*way, self._cut))
                    self._threads.append(carrier)
                    carrier.start()

    @staticmethod
    def _carry(source, sink, cut):
        with suppress(OSError):
            while data := source.recv(65536):
                if not cut.is_set():
                    sink.sendall(data)


def test_a_link_that_dies_without_a_word_is_made_again(monkeypatch):
    monkeypatch.setattr(subscriber, "HEARTBEAT_MS", 100)
    with (
        Publisher("tcp://127.0.0.1:*") as publisher,
        closing(Cable(publisher.endpoint)) as cable,
        Subscription(cable.endpoint) as reader,
    ):
        until(reader, "connected")
        cable.cut()
        until(reader, "connecting")
        until(reader, "connected")
        assert cable.made == 2
