"""What Prometheus reads of a run, over HTTP as it does."""

import socket
import sys
import threading
import urllib.request
from contextlib import ExitStack

import pytest

from refocus.acquisition import attach
from refocus.acquisition.microscopes.simulated import SimulatedMicroscope
from refocus.acquisition.sinks.prometheus import Metrics
from refocus.configs import RefocusError
from refocus.engine.fake import FakeEngine

from ...conftest import loops

prometheus = pytest.importorskip("prometheus_client.parser")


def scrape(address):
    """Give the samples by name and the values of their labels, in the order of these."""
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=30) as answer:
        text = answer.read().decode()
    return {
        (sample.name, *(sample.labels[name] for name in sorted(sample.labels))): sample.value
        for family in prometheus.text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_a_scrape_tells_what_the_stats_tell():
    with (
        SimulatedMicroscope(frame_shape=(64, 64)) as microscope,
        Metrics("127.0.0.1:0") as metrics,
        attach(microscope.core, engine=FakeEngine(), sinks=[metrics], queue=20) as live,
    ):
        before = scrape(metrics.address)
        assert before["refocus_frames", "received"] == 0
        microscope.core.mda.run(loops(12))
        assert live.wait(30)
        told, stats = scrape(metrics.address), live.stats.check()
        assert {k[1]: v for k, v in told.items() if k[0] == "refocus_frames"} == stats.frames()
        assert stats.published == 12
        assert told["refocus_queue_capacity_frames",] == 20
        assert told["refocus_queue_peak_frames",] == stats.peak
        assert told["refocus_latency_seconds", "0.99"] == pytest.approx(stats.latency_ms.p99 / 1e3)
        assert told["refocus_callback_seconds", "1"] == pytest.approx(stats.callback_us.max / 1e6)
        (info,) = [key for key in told if key[0] == "refocus_run_info"]
        assert {"fake", "newest", stats.run} <= set(info)
        microscope.core.mda.run(loops(3))
        assert live.wait(30)
        assert scrape(metrics.address)["refocus_frames", "published"] == 3  # every run anew


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("9464", "no HOST:PORT; write for example 127.0.0.1:9464"),
        ("localhost:no", "no HOST:PORT"),
        ("0.0.0.0:9464", "other hosts could read them; listen on 127.0.0.1"),
        ("microscope:9464", "other hosts could read them"),
    ],
)
def test_addresses_that_cannot_be_used_are_refused(address, says):
    with pytest.raises(RefocusError, match=says):
        Metrics(address)


def test_a_port_in_use_is_told():
    with (
        Metrics("127.0.0.1:0") as metrics,
        pytest.raises(RefocusError, match="in use by another program; choose another port"),
    ):
        Metrics(metrics.address)


def test_without_prometheus_client_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    with pytest.raises(RefocusError, match=r"pip install 'refocus-live\[prometheus\]'"):
        Metrics("127.0.0.1:0")


@pytest.mark.parametrize("says", [b"", b"GET /metrics HTTP/1.1\r\nHost: "])
def test_who_says_half_of_it_costs_few_threads_and_keeps_nobody_waiting(says):
    from refocus.acquisition.sinks.prometheus import AT_ONCE

    before = threading.active_count()
    with Metrics("127.0.0.1:0") as metrics, ExitStack() as stack:
        host, _, port = metrics.address.partition(":")
        for _ in range(50):
            stranger = stack.enter_context(socket.create_connection((host, int(port)), 30))
            stranger.sendall(says)
            assert threading.active_count() - before <= 2 * AT_ONCE + 1
        assert scrape(metrics.address)["refocus_frames", "received"] == 0
    assert threading.active_count() <= before + 2 * AT_ONCE
