"""The stats of a run for Prometheus: a sink that answers scrapes on a port of its own.

```python
with Metrics("127.0.0.1:9464") as metrics, attach(core, sinks=[metrics]):
    core.run_mda(sequence)
```

Needs ``prometheus-client`` (``pip install 'refocus-live[prometheus]'``). Nothing is done for a
frame: a scrape is answered from the stats of the last second.
"""

import errno
import socket
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict
from http.server import ThreadingHTTPServer
from threading import Lock, Thread
from typing import TYPE_CHECKING, Any, Self

from refocus.acquisition.pipeline.frame import FrameResult
from refocus.acquisition.pipeline.sink import RunInfo
from refocus.acquisition.pipeline.stats import Stats
from refocus.configs import RefocusError, reason_of
from refocus.configs.hosts import is_loopback

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry
    from prometheus_client.core import GaugeMetricFamily

TIMES = {"latency_ms": 1e-3, "engine_ms": 1e-3, "callback_us": 1e-6}
"""Durations of the stats, and what makes seconds of them."""

AT_ONCE = 4
"""Scrapes that are answered at once; at most twice as many connections, and threads."""
SILENCE_S = 2.0
"""So long a scraper may say nothing, or take nothing."""

QUANTILES = {"p50": "0.5", "p99": "0.99", "max": "1"}


class Metrics:
    """Answers scrapes at ``http://ADDRESS/metrics``; a context manager.

    Parameters
    ----------
    address
        ``HOST:PORT``, such as ``127.0.0.1:9464``; port 0 is any free one.
    insecure
        Allow an address that other hosts can reach: whoever reaches it reads the counts.

    Attributes
    ----------
    address
        Where it listens, with the port that was chosen.

    Raises
    ------
    RefocusError
        The address is not one, is in use, or can be reached from beyond this host; or
        ``prometheus-client`` is not installed.
    """

    def __init__(self, address: str, *, insecure: bool = False) -> None:
        try:
            from prometheus_client import CollectorRegistry
        except ImportError:
            raise RefocusError(
                f"metrics on {address}: need prometheus-client; "
                "install it: pip install 'refocus-live[prometheus]'"
            ) from None
        host, port = _split(address, insecure)
        self._run: RunInfo | None = None
        self._stats = Stats()
        registry = CollectorRegistry(auto_describe=False)
        registry.register(self)
        try:
            self._server = _Server((host, port), registry)
        except OSError as error:
            in_use = error.errno == errno.EADDRINUSE
            why = "in use by another program" if in_use else reason_of(error)
            raise RefocusError(f"metrics on {address}: {why}; choose another port") from error
        self.address = f"{host}:{self._server.server_port}"
        self._thread = Thread(target=self._server.serve_forever, args=(0.1,), daemon=True)
        self._thread.start()

    # -- as a sink

    def start(self, run: RunInfo) -> None:
        """Count anew."""
        self._run, self._stats = run, Stats(run=run.run)

    def put(self, result: FrameResult) -> None:
        """Do nothing: it is in the stats."""

    def tick(self, stats: Stats) -> None:
        """Keep the stats of the second."""
        if self._run is not None and stats.run == self._run.run:
            self._stats = stats

    def close(self, stats: Stats) -> None:
        """Keep the final ones."""
        self._stats = stats

    # -- as a collector

    def collect(self) -> Iterator["GaugeMetricFamily"]:
        """Give what a scrape is answered with; gauges, because every run begins at 0."""
        from prometheus_client.core import GaugeMetricFamily

        stats, run = self._stats, self._run
        frames = GaugeMetricFamily(
            "refocus_frames",
            "Frames of the run by state: received is the sum of the others, but skipped.",
            labels=["state"],
        )
        for state, count in stats.frames().items():
            frames.add_metric([state], count)
        yield frames
        for name, what, value in (
            ("queue_frames", "Frames waiting for the engine.", stats.queued),
            ("queue_capacity_frames", "Frames that may wait.", stats.capacity),
            ("queue_peak_frames", "The most that waited so far.", stats.peak),
            ("camera_gaps_frames", "Frames the camera numbered and never gave.", stats.camera_gaps),
            ("frames_per_second", "Published, over the run so far.", stats.fps),
        ):
            yield GaugeMetricFamily(f"refocus_{name}", what, value=value)
        for key, scale in TIMES.items():
            name = key.rpartition("_")[0]
            times = GaugeMetricFamily(
                f"refocus_{name}_seconds",
                f"Distribution of the {name} time, over the run so far.",
                labels=["quantile"],
            )
            for part, value in asdict(getattr(stats, key)).items():
                times.add_metric([QUANTILES[part]], value * scale)
            yield times
        told = GaugeMetricFamily(
            "refocus_run_info",
            "The run in progress, or the last one.",
            labels=["run", "policy", "engine", "model"],
        )
        if run is not None:
            engine = run.engine
            labels = [run.run, run.policy, engine.get("name"), engine.get("model")]
            told.add_metric([str(label or "") for label in labels], 1)
        yield told

    def release(self) -> None:
        """Stop answering. May be called twice."""
        self._server.shutdown()
        self._server.server_close()
        self._server.let_all_go()
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


class _Server(ThreadingHTTPServer):
    """Answers a few at a time: who comes when all are busy is served, and the oldest let go."""

    def __init__(self, address: tuple[str, int], registry: "CollectorRegistry") -> None:
        from prometheus_client import MetricsHandler

        handler = type("Handler", (MetricsHandler,), {"registry": registry, "timeout": SILENCE_S})
        self._open: dict[socket.socket, None] = {}
        self._lock = Lock()
        super().__init__(address, handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer on a thread, if one is left."""
        with self._lock:
            full = len(self._open) >= 2 * AT_ONCE  # who was hung up on has yet to notice
            if len(self._open) >= AT_ONCE:
                _hang_up(oldest := next(iter(self._open)))
                self._open[oldest] = self._open.pop(oldest)
            if not full:
                self._open[request] = None
        if full:
            super().shutdown_request(request)
            return
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """Close a connection, answered or not."""
        with self._lock:
            self._open.pop(request, None)
        super().shutdown_request(request)

    def let_all_go(self) -> None:
        """Hang up on whoever is there."""
        with self._lock:
            for request in self._open:
                _hang_up(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: who hangs up has no answer."""


def _hang_up(request: socket.socket) -> None:
    with suppress(OSError):
        request.shutdown(socket.SHUT_RDWR)


def _split(address: str, insecure: bool) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise RefocusError(f"metrics on {address}: no HOST:PORT; write for example 127.0.0.1:9464")
    if not (is_loopback(host) or insecure):
        raise RefocusError(
            f"metrics on {address}: other hosts could read them; listen on 127.0.0.1, "
            "or allow it with --insecure"
        )
    return host, int(port)
