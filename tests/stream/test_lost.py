"""A publisher that is killed in the middle of a run, and one that is not there yet."""

import logging
import threading

import pytest
import zmq

from refocus.acquisition.pipeline.sink import RunInfo
from refocus.acquisition.pipeline.stats import Stats
from refocus.acquisition.sinks.publisher import Publisher
from refocus.configs import RefocusError
from refocus.stream import subscriber
from refocus.stream.subscriber import PublisherLost, subscribe


@pytest.fixture
def publisher(monkeypatch):
    monkeypatch.setattr(subscriber, "LOST_S", 0.2)
    monkeypatch.setattr(subscriber, "MUTE_S", 0.5)
    with Publisher("tcp://127.0.0.1:*", linger_seconds=0.2) as publisher:
        yield publisher


@pytest.mark.parametrize("timeout", [None, 20.0])
@pytest.mark.parametrize("killed", ["at once", "later", ""])
def test_a_silence_in_a_run_is_a_publisher_that_is_lost(publisher, killed, timeout, monkeypatch):
    """It is killed at once, or hangs and is killed then, or hangs for good."""
    if killed:
        monkeypatch.setattr(subscriber, "MUTE_S", 60.0)
    with subscribe(publisher.endpoint, timeout=timeout) as reader:
        assert publisher.wait_subscribers(1, 30)
        publisher.start(RunInfo("run"))
        heard = reader.messages()
        assert next(heard).run == "run"
        end = threading.Timer(0.0 if killed == "at once" else 0.6, publisher.release)
        if killed:
            end.start()
        with pytest.raises(PublisherLost, match=r"heard for [\d.]+ s in the middle of a run"):
            next(heard)


def test_a_timeout_in_a_run_is_a_publisher_that_is_lost(publisher, monkeypatch):
    monkeypatch.setattr(subscriber, "MUTE_S", 30.0)
    with subscribe(publisher.endpoint, timeout=0.5) as reader:
        assert publisher.wait_subscribers(1, 30)
        publisher.start(RunInfo("run"))
        heard = reader.messages()
        assert next(heard).run == "run"
        with pytest.raises(PublisherLost, match="in the middle of a run"):
            next(heard)


def test_a_publisher_that_is_there_and_only_slow_is_waited_for(publisher, monkeypatch):
    monkeypatch.setattr(subscriber, "MUTE_S", 30.0)
    with subscribe(publisher.endpoint) as reader:
        assert publisher.wait_subscribers(1, 30)
        publisher.start(RunInfo("run"))
        heard = reader.messages()
        assert next(heard).run == "run"
        later = threading.Timer(0.6, publisher.close, [Stats(run="run")])
        later.start()
        assert next(heard).run == "run"
        later.join()
        assert reader.end is not None


def test_who_reads_run_after_run_is_warned_and_goes_on(publisher, caplog):
    with subscribe(publisher.endpoint, timeout=1, runs=None) as reader:
        assert publisher.wait_subscribers(1, 30)
        publisher.start(RunInfo("one"))
        heard = reader.messages()
        assert next(heard).run == "one"
        with (
            caplog.at_level(logging.WARNING),
            pytest.raises(RefocusError, match="nothing heard for 1 s"),
        ):
            next(heard)
    assert caplog.text.count("waiting for the next run") == 1


def test_between_runs_and_before_them_it_waits(publisher):
    with subscribe(publisher.endpoint, timeout=0.6, runs=2) as reader:
        assert publisher.wait_subscribers(1, 30)
        publisher.start(RunInfo("one"))
        publisher.close(Stats(run="one"))
        heard = reader.messages()
        assert [next(heard).run for _ in range(2)] == ["one", "one"]
        with pytest.raises(RefocusError, match=r"nothing heard for 0\.6 s"):
            next(heard)


@pytest.mark.parametrize("parts", [[b"refocus.frame"], [b"refocus.frame.later", b"{}"]])
def test_who_sends_without_end_what_is_passed_over_holds_nobody(parts, monkeypatch):
    class Endless:
        sent = 0

        def poll(self, timeout):
            return True

        def recv_multipart(self, copy):
            self.sent += 1
            assert self.sent < 10
            return [zmq.Frame(part) for part in parts]

    with subscribe("tcp://127.0.0.1:1") as reader, monkeypatch.context() as within:
        within.setattr(reader, "_socket", Endless())
        assert reader.receive(0.0) is None
