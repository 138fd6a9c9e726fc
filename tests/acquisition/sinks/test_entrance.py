"""Strangers at a publisher's door, and what they may cost: on loopback, and few."""

import os
import socket
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import pytest
import zmq

from refocus.acquisition.pipeline.sink import RunInfo
from refocus.acquisition.pipeline.stats import Stats
from refocus.acquisition.sinks import outgoing, relay
from refocus.acquisition.sinks.backlog import Backlog
from refocus.acquisition.sinks.publisher import Publisher
from refocus.configs import RefocusError
from refocus.stream.keys import make_keys
from refocus.stream.messages import RunHeader
from refocus.stream.subscriber import subscribe

from .test_publisher import ANY, result

GREETING = b"\xff" + bytes(8) + b"\x7f"
SUBSCRIBED_TO_ALL = b"\x00\x01\x01"


def until(true):
    end = time.monotonic() + 30
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


def descriptors():
    return len(os.listdir("/proc/self/fd"))


@contextmanager
def strangers(endpoint, count, says=b""):
    """Connect so many that say this and nothing else."""
    with ExitStack() as stack:
        made = []
        for _ in range(count):
            if endpoint.startswith("ipc"):
                one = socket.socket(socket.AF_UNIX)
                one.connect(endpoint.removeprefix("ipc://"))
            else:
                one = socket.create_connection(("127.0.0.1", int(endpoint.rpartition(":")[2])), 30)
            stack.enter_context(one)
            if says:
                one.sendall(says)
            made.append(one)
        yield made


def follows(publisher, keys=None):
    """Whether a reader that comes now is served."""
    with subscribe(publisher.endpoint, 30, keys=keys) as reader:
        # ZeroMQ subscribes anew, where it was refused at first, only while it is read
        until(lambda: reader.receive(0) or publisher.subscribers() == 1)
        publisher.start(RunInfo("run"))
        publisher.put(result(0))
        publisher.close(Stats(run="run", received=1, published=1))
        return [frame.header.number for frame in reader] == [0]


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="counts descriptors in /proc")
@pytest.mark.parametrize("says", [b"", GREETING, b"GET / HTTP/1.1\r\n", GREETING + b"\x03"])
@pytest.mark.parametrize("where", ["tcp", "ipc", "keys"])
def test_strangers_cost_the_acquisition_no_descriptors(tmp_path, says, where):
    make_keys(tmp_path / "keys")
    ours, theirs = (
        (tmp_path / "keys" / name if where == "keys" else None) for name in ("publisher", "reader")
    )
    endpoint = f"ipc://{tmp_path}/door" if where == "ipc" else ANY
    with Publisher(endpoint, keys=ours, linger_seconds=1) as publisher:
        before = descriptors()
        with strangers(publisher.endpoint, 200, says) as made:
            assert descriptors() - before - len(made) <= relay.MOST_READERS
            assert follows(publisher, theirs)


def test_one_who_talks_without_end_is_let_go_and_keeps_nothing_from_others():
    with Publisher(ANY, linger_seconds=1) as publisher, zmq.Context() as context:
        flood = context.socket(zmq.XSUB)
        flood.linger = 0
        gone = flood.get_monitor_socket(zmq.EVENT_DISCONNECTED)
        flood.connect(publisher.endpoint)
        while not gone.poll(0):
            for number in range(100):
                flood.send(b"\1%d" % number + os.urandom(50))
        flood.disable_monitor()
        gone.close()
        flood.close()
        assert len(publisher._out.readers) == 0
        assert follows(publisher)


def test_who_takes_back_what_was_never_asked_for_silences_nobody():
    class Said:
        """Stands for a message whose reader is known, as those that readers say are."""

        def __init__(self, text, properties=("Socket-Type",)):
            self.bytes, self._properties = text, properties

        def get(self, name):
            if name not in self._properties:
                raise zmq.ZMQError(22)
            return "SUB"

    class Socket:
        closed = False

        def __init__(self, said):
            self._said = list(said)

        def getsockopt(self, option):
            return zmq.POLLIN if self._said else 0

        def recv(self, copy):
            return self._said.pop(0)

    from refocus.acquisition.sinks.asked import Asked

    asked = Asked(
        Socket([Said(b"\1refocus.frame"), *[Said(b"\0refocus.frame")] * 3, Said(b"\1other")])
    )
    assert not asked.read()
    assert asked.count(b"refocus.frame") == 1
    asked._socket = Socket([Said(b"\0refocus.frame", ())] * 2)
    asked.read()
    assert asked.count(b"refocus.frame") == 0
    assert len(asked) == 1


def test_bytes_are_bounded_whatever_the_marks_and_others_miss_nothing(monkeypatch, caplog):
    monkeypatch.setattr(outgoing, "BACKLOG_BYTES", 20_000_000)
    monkeypatch.setattr(outgoing, "has_memory", lambda: False)
    side, frames = 1024, 40
    with ExitStack() as stack:
        publisher = stack.enter_context(Publisher(ANY, high_water=1000, linger_seconds=0.1))
        context = stack.enter_context(zmq.Context())
        stalled = stack.enter_context(context.socket(zmq.SUB))
        stalled.linger, stalled.rcvhwm, stalled.rcvbuf = 0, 1, 65536
        stalled.connect(publisher.endpoint)
        stalled.subscribe(b"")
        reader = stack.enter_context(subscribe(publisher.endpoint, 30))
        until(lambda: publisher.subscribers() == 2)
        publisher.start(RunInfo("run"))
        assert isinstance(reader.receive(30), RunHeader)
        for number in range(frames):
            until(lambda: publisher._out._has_room(side * side * 2))
            publisher.put(result(number, (side, side)))
            assert publisher._out._backlog.bytes <= 20_000_000 + side * side * 2
            assert reader.receive(30).header.number == number
        until(lambda: "took nothing for too long" in caplog.text)
        publisher.close(Stats(run="run", received=frames, published=frames))
        assert reader.lost == 0


def test_marks_follow_the_frames():
    with Publisher(ANY, frame_bytes=64 * 64 * 2) as publisher:
        marks = publisher._out._socket.sndhwm
        publisher.start(RunInfo("run"))
        assert publisher._out._has_room(4096 * 4096 * 2)
        assert marks == 1000
        assert publisher._out._socket.sndhwm * 4096 * 4096 * 2 <= outgoing.BACKLOG_BYTES / 2


def test_held_messages_are_counted_in_any_order():
    class Tracker:
        done = False

    backlog, trackers = Backlog(), [Tracker() for _ in range(500)]
    for tracker in trackers:
        backlog.add(tracker, 10)
    assert backlog.bytes == 5000
    for tracker in trackers[1:]:
        tracker.done = True
    assert (backlog.settle(), backlog.bytes) == (1, 10)


def test_a_relay_that_ends_is_started_anew(monkeypatch):
    with Publisher(ANY, linger_seconds=1) as publisher:
        first = publisher._out._entrance._process
        first.kill()
        until(lambda: publisher._out._entrance._process is not first)
        assert follows(publisher)


def test_a_relay_that_cannot_be_started_anew_is_tried_again(monkeypatch, caplog):
    with Publisher(ANY, linger_seconds=1) as publisher:
        entrance = publisher._out._entrance
        start, failures = entrance._start, [OSError(24, "Too many open files")] * 2

        def scarce():
            if failures:
                raise failures.pop()
            return start()

        monkeypatch.setattr(entrance, "_start", scarce)
        first = entrance._process
        first.kill()
        until(lambda: entrance._process is not first)
        assert follows(publisher)
    said = [record.message.partition(": ")[2] for record in caplog.records]
    assert said == [
        "what serves readers has ended, and does not start: Too many open files; trying again",
        "what serves readers has ended; started anew",
    ]


def test_two_publishers_never_share_a_file(tmp_path):
    endpoint = f"ipc://{tmp_path}/door"
    with Publisher(endpoint, linger_seconds=1) as publisher:
        with pytest.raises(RefocusError, match="in use by another program; choose another file"):
            Publisher(endpoint)
        assert follows(publisher)
    assert not (tmp_path / "door").exists()
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(str(tmp_path / "door"))
    with Publisher(endpoint, linger_seconds=1) as publisher:  # what a killed one left is taken over
        assert follows(publisher)
    (tmp_path / "door").write_text("somebody's data")
    with pytest.raises(RefocusError, match="a file is there that is no socket"):
        Publisher(endpoint)
    assert (tmp_path / "door").read_text() == "somebody's data"


def test_a_frame_on_its_way_outlives_the_publisher():
    pixels = np.full((512, 512), 7, np.uint16)
    with subscribe(ANY.replace("*", str(_free_port())), 30) as reader:
        with Publisher(reader.endpoint) as publisher:
            until(lambda: publisher.subscribers() == 1)
            publisher.start(RunInfo("run"))
            for number in range(8):
                publisher.put(result(number, pixels.shape))
            publisher.close(Stats(run="run", received=8, published=8))
        assert len(list(reader)) == 8


def _free_port():
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


FORKS = """
import os, sys
from refocus.acquisition import attach
from refocus.acquisition.microscopes.simulated import SimulatedMicroscope
from refocus.engine.fake import FakeEngine
from refocus.stream.subscriber import subscribe

with SimulatedMicroscope(frame_shape=(64, 64)) as microscope:
    core = microscope.core
    with attach(core, engine=FakeEngine(), publish="tcp://127.0.0.1:*", throttle=True) as live:
        child = os.fork()
        if child == 0:
            sys.exit(3)  # which leaves the blocks above
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 3
        with subscribe(live.endpoint, 30) as reader:
            assert live.wait_subscribers(1, 30)
            core.mda.run(microscope.sequence(5))
            live.wait()
            print(sum(1 for _ in reader), live.stats.check().published)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_fork_that_ends_takes_nothing_from_its_parent():
    done = subprocess.run(
        [sys.executable, "-c", FORKS], capture_output=True, text=True, check=False
    )
    assert done.stdout.split() == ["5", "5"], done.stderr
