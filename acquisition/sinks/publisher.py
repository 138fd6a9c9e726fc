"""Results over ZeroMQ: a sink that publishes schema ``refocus/1``.

The socket is guarded by one lock. The worker sends frames itself, because a further thread would
cost each frame a switch; the ticker sends the messages of every second; whoever waits for readers
counts them. Sending never blocks: for a reader that does not keep up, ZeroMQ drops messages at
its high-water mark, and the reader sees a gap in the numbers; and the one that is stuck the longest
is let go once too many bytes wait. What nobody reads is not made.

Readers do not connect to this socket, but to an :mod:`~refocus.acquisition.sinks.entrance`, whose
bounds hold for whatever strangers do. So the work of a turn under the lock is bounded, too.
"""

import logging
import os
import threading
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

from refocus.acquisition.pipeline.frame import FrameResult
from refocus.acquisition.pipeline.sink import RunInfo
from refocus.acquisition.pipeline.stats import Stats
from refocus.acquisition.sinks import headers
from refocus.acquisition.sinks.entrance import refuse_beyond_host
from refocus.acquisition.sinks.outgoing import Outgoing, as_sent
from refocus.engine.protocol import EngineInfo
from refocus.stream import messages

logger = logging.getLogger("refocus.acquisition")

TURNS = 20
"""In which the ticker, every second, reads what readers have said."""
LOCK_S = 0.2
"""How long the ticker, which watches over the engine, waits for its turn at the socket."""


class Publisher:
    """Publishes every result on an XPUB socket.

    Parameters
    ----------
    endpoint
        Where to bind, such as ``"tcp://127.0.0.1:5555"``, ``"tcp://127.0.0.1:*"`` for any free
        port, or, but on Windows, ``"ipc:///tmp/refocus"``.
    raw
        Send the captured pixels, too.
    insecure
        Allow an address that other hosts can reach; whoever reaches it can read the frames.
    keys
        The publisher's folder of keys, see :mod:`refocus.stream.keys`: what is sent is
        encrypted, and only readers with a key can connect. Other hosts may reach it then.
    frame_bytes
        Size of a frame, from which the high-water mark is chosen; 0 where unknown.
    high_water
        Messages that may wait for one slow reader, instead of that choice.
    linger_seconds
        How long ``release`` waits for readers to take what is still on its way.
    shared_memory
        Offer readers on this host the pixels in shared memory, too; see
        :mod:`refocus.stream.shared_memory`.
    made
        How results are made, for what is said of their pixels; by default as ``attach`` makes them.

    Raises
    ------
    RefocusError
        The endpoint is not one, is in use, or can be reached from beyond this host.
    """

    def __init__(
        self,
        endpoint: str,
        *,
        raw: bool = False,
        insecure: bool = False,
        keys: Path | None = None,
        frame_bytes: int = 0,
        high_water: int | None = None,
        linger_seconds: float = 3.0,
        shared_memory: bool = False,
        made: headers.Made | None = None,
    ) -> None:
        if not insecure and keys is None:
            refuse_beyond_host(endpoint)
        self._raw = raw
        self._made = made or headers.Made()
        self._linger_seconds = linger_seconds
        self._end: messages.EndHeader | None = None
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._run: RunInfo | None = None
        self._told: messages.RunHeader | None = None
        self._engines: set[tuple[str, str, str]] = set()
        self._next_number = 0
        self._faults: set[str] = set()
        self._out = Outgoing(
            endpoint,
            keys=keys,
            frame_bytes=frame_bytes * (1 + raw),
            high_water=high_water,
            linger_seconds=linger_seconds,
            shared_memory=shared_memory,
        )
        self._readers = self._out.readers
        self.endpoint = self._out.endpoint

    def wait_subscribers(self, count: int, timeout: float | None = None) -> bool:
        """Wait until that many readers have joined, so that they get frame 0.

        A reader counts when it subscribes to ``refocus.readers``, as ours does, or to everything.

        Parameters
        ----------
        count
            How many readers.
        timeout
            Seconds; None waits for ever.

        Returns
        -------
        bool
            False on timeout.
        """
        until = time.monotonic() + timeout if timeout is not None else None
        while self.subscribers() < count:
            if until is not None and time.monotonic() >= until:
                return False
            time.sleep(0.01)
        return True

    def subscribers(self) -> int:
        """Count the readers there are now."""
        with self._lock:
            self._readers.read()
            self._out.prepare()
            return self._readers.count(messages.READERS)

    # -- as a sink

    def start(self, run: RunInfo) -> None:
        """Announce a run."""
        self._send_end_now()
        with self._lock:
            self._engines = {_engine_key(run.engine)}
            self._next_number = 0
            self._faults.clear()
            self._announce(run)

    def put(self, result: FrameResult) -> None:
        """Publish a result; small pixels are not copied, large ones once."""
        images = [as_sent(result.pixels)]
        if self._raw:
            images.append(as_sent(result.captured.pixels))
        with self._lock:
            if self._run is None:
                return
            if result.engine is not None:
                self._follow_engine(self._run, result.engine)
            self._next_number = result.number + 1
            self._readers.read()
            if not self._out.wanted():
                return
            age_ms = (time.perf_counter_ns() - result.captured.captured_ns) / 1e6
            try:
                header = headers.frame_header(self._run.run, result, age_ms, self._made)
            except ValueError as error:  # of pydantic: this frame is missing, and no other
                self._tell_once(f"frame {result.captured.frame} not published: {error}")
                return
            self._out.send_frame(header, *images)

    def tick(self, stats: Stats) -> None:
        """Repeat the description of the run, and publish its stats; no later than it can be."""
        for turn in range(TURNS):
            if not self._lock.acquire(timeout=LOCK_S):
                return
            try:
                if turn == 0:
                    self._tell_now(stats)
                if not self._readers.read():
                    return
            finally:
                self._lock.release()

    def _tell_now(self, stats: Stats) -> None:
        self._send_last()
        if self._run is not None and self._run.run == stats.run:
            self._announce(self._run)
            fields = headers.stats_fields(stats, self._next_number)
            self._out.send(messages.STATS, messages.StatsHeader(**fields))

    def close(self, stats: Stats) -> None:
        """Publish the final counts of the run."""
        with self._lock:
            fields = headers.stats_fields(stats, self._next_number)
            self._end = messages.EndHeader(**fields)
            self._run = None
        self._send_end(patience=0.1)

    # -- the socket

    def release(self) -> None:
        """Unbind, once readers have had time to take what is on its way. May be called twice."""
        if os.getpid() != self._process:
            return  # a fork: what is bound is its parent's
        until = time.monotonic() + self._linger_seconds
        self._send_end(patience=self._linger_seconds)
        self._send_end_now()
        while self._unmapped() and time.monotonic() < until:
            time.sleep(0.005)
        with self._lock:
            self._run = None
            self._out.unbind()
        self._out.close(until - time.monotonic())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def _follow_engine(self, run: RunInfo, engine: EngineInfo) -> None:
        """Announce the run anew if its model is run by another engine than at its start.

        Another model is another channel's, and no fallback.
        """
        now, told = engine.describe(), run.engine
        key = _engine_key(now)
        if key in self._engines or now["sha256"] != told.get("sha256"):
            return
        self._engines.add(key)
        failed = told.get("fallback_from") or told.get("name", "")
        self._announce(replace(run, engine={**told, **now, "fallback_from": failed}))

    def _announce(self, run: RunInfo) -> None:
        if self._told is None or run is not self._run:
            self._told = headers.run_header(run, 0)
        self._run = run
        now = {"next_number": self._next_number, "shared_memory": self._out.shared}
        self._out.send(messages.RUN, self._told.model_copy(update=now))

    def _tell_once(self, text: str) -> None:
        kind = text.partition(":")[2]
        if kind not in self._faults and len(self._faults) < 16:
            self._faults.add(kind)
            logger.error("%s", " ".join(text.split())[:300])

    def _unmapped(self) -> bool:
        with self._lock:
            return self._out.unmapped()

    def _send_end(self, patience: float) -> None:
        """Send the last message of a run, if that is still to do: the one that none should miss.

        A reader that is slow has no room for it before it has taken the frames on their way; they
        are waited for, but no longer than ``patience`` seconds.
        """
        until = time.monotonic() + patience
        while self._end is not None and self._on_their_way():
            if time.monotonic() >= until:
                return
            time.sleep(0.005)
        self._send_end_now()

    def _send_end_now(self) -> None:
        with self._lock:
            self._send_last()

    def _send_last(self) -> None:
        if self._end is not None:
            self._out.send(messages.END, self._end)
            self._end = None

    def _on_their_way(self) -> bool:
        with self._lock:
            return self._out.on_their_way() > 0


def _engine_key(engine: Mapping[str, Any]) -> tuple[str, str, str]:
    name, sha256, device = (str(engine.get(key, "")) for key in ("name", "sha256", "device"))
    return name, sha256, device
