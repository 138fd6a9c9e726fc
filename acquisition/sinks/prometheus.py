"""The stats of a run for Prometheus: a sink that answers scrapes on a port of its own.

```python
with Metrics("127.0.0.1:9464") as metrics, attach(core, sinks=[metrics]):
    core.run_mda(sequence)
```

Needs ``prometheus-client`` (``pip install 'refocus-live[prometheus]'``). Nothing is done for a
frame: a scrape is answered from the stats of the last second.
"""

import errno
import ipaddress
from collections.abc import Iterator
from dataclasses import asdict
from types import TracebackType
from typing import TYPE_CHECKING, Self

from refocus.acquisition.pipeline.frame import FrameResult
from refocus.acquisition.pipeline.sink import RunInfo
from refocus.acquisition.pipeline.stats import Stats
from refocus.configs import RefocusError

if TYPE_CHECKING:
    from prometheus_client.core import GaugeMetricFamily

TIMES = {"latency_ms": 1e-3, "engine_ms": 1e-3, "callback_us": 1e-6}
"""Durations of the stats, and what makes seconds of them."""

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
            from prometheus_client import CollectorRegistry, start_http_server
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
            self._server, self._thread = start_http_server(port, host, registry)
        except OSError as error:
            why = "in use by another program" if error.errno == errno.EADDRINUSE else error.strerror
            raise RefocusError(f"metrics on {address}: {why}; choose another port") from error
        self.address = f"{host}:{self._server.server_port}"

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
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.release()


def _split(address: str, insecure: bool) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise RefocusError(f"metrics on {address}: no HOST:PORT; write for example 127.0.0.1:9464")
    try:
        local = ipaddress.ip_address(host).is_loopback
    except ValueError:
        local = host == "localhost"
    if not (local or insecure):
        raise RefocusError(
            f"metrics on {address}: other hosts could read them; listen on 127.0.0.1, "
            "or allow it with --insecure"
        )
    return host, int(port)
