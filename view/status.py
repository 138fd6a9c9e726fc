"""What is known of the stream, and what of it a person should be told."""

import statistics
import time
from collections import deque
from typing import Any, Literal

from refocus.stream.link import LinkState
from refocus.stream.messages import EndHeader, RunHeader, StatsHeader
from refocus.view.places import Shown

SILENCE_S = 3.0
"""Something comes every second during a run; this much silence is a stream that is lost."""

GRACE_S = 1.0
"""A connection takes a moment; only then is nobody there."""

POINTS = 600
"""Seconds that the time line goes back."""

Phase = Literal["connecting", "nobody", "refused", "foreign", "idle", "running", "lost", "ended"]


class Status:
    """The accounts of one endpoint, as its messages tell them.

    ``connecting → nobody ⇄ idle → running ⇄ lost``, ``running → ended``; ``refused`` is a publisher
    that wants other keys, ``foreign`` one that speaks another schema.

    Not thread-safe: :class:`~refocus.view.listener.Listener` holds a lock.

    Parameters
    ----------
    now
        The monotonic clock, s, as in all that follows.

    Attributes
    ----------
    points
        The last :data:`POINTS` seconds, one point each: ``t`` (s since 1970), ``fps``,
        ``latency_ms``, ``queued``, and the counts so far of ``dropped, deferred, failed``.
    points_made
        How many there were in all.
    has_raw
        Whether frames come with their captured pixels; None before the first.
    """

    def __init__(self, now: float) -> None:
        self.points: deque[dict[str, Any]] = deque(maxlen=POINTS)
        self.points_made = 0
        self._link: LinkState = "connecting"
        self._link_since = now
        self._heard = now
        self._run: RunHeader | None = None
        self._running = False
        self._fault = ""
        self._stats: StatsHeader | None = None
        self._counted = (now, 0)
        self._latencies: list[float] = []
        self.has_raw: bool | None = None
        self._preferred: dict[str, dict[str, Any]] = {}

    # -- what happens

    def link(self, link: LinkState, now: float) -> None:
        """Take note of how the connection stands."""
        if link != self._link:
            self._link, self._link_since = link, now
            if link == "connecting":  # whoever was not understood has gone
                self._fault = ""

    def fault(self, text: str, now: float) -> None:
        """Take note of a message that was not understood."""
        self._fault, self._heard = text, now

    def frame(self, shown: Shown, now: float) -> None:
        """Take note of a frame."""
        self._understood(now)
        header = shown.frame.header
        self.has_raw = shown.frame.raw is not None
        if len(self._latencies) < 10_000:
            self._latencies.append(header.times_ms.published)
        if self._run is None or self._run.run == header.run:
            self._running = True

    def run(self, run: RunHeader, now: float) -> bool:
        """Take note of a run's description, which comes every second; tell whether it is new."""
        self._understood(now)
        before = self._run
        if before is None or run.run != before.run:
            self._stats = None
            self._counted = (now, 0)
            self._latencies.clear()
        self._run, self._running = run, True
        engine = run.engine
        first = {"name": engine["fallback_from"]} if engine.get("fallback_from") else engine
        self._preferred.setdefault(str(engine.get("sha256")), dict(first))
        if engine.get("fallback_from"):
            self._preferred[str(engine.get("sha256"))] = dict(first)
        return before is None or before.run != run.run or before.engine != engine

    def stats(self, stats: StatsHeader, now: float) -> None:
        """Take note of the counts of a run, and of its end."""
        self._understood(now)
        self._stats = stats
        self._running = not isinstance(stats, EndHeader)
        since, before = self._counted
        published = stats.frames.get("published", 0)
        fps = stats.fps if before == 0 else (published - before) / max(now - since, 1e-3)
        self._counted = (now, published)
        latency = statistics.median(self._latencies) if self._latencies else None
        self._latencies.clear()
        self.points_made += 1
        self.points.append(
            {
                "t": round(time.time(), 3),
                "fps": round(max(fps, 0.0), 2),
                "latency_ms": None if latency is None else round(latency, 2),
                "queued": stats.queued,
                **{key: stats.frames.get(key, 0) for key in ("dropped", "deferred", "failed")},
            }
        )

    def _understood(self, now: float) -> None:
        self._heard, self._fault = now, ""

    # -- what it amounts to

    def phase(self, now: float) -> Phase:
        """Tell how the stream stands."""
        if self._link == "refused":
            return "refused"
        if self._fault:
            return "foreign"
        if self._running:
            gone = self._link == "connecting" or now - self._heard > SILENCE_S
            return "lost" if gone else "running"
        if self._run is not None:  # and stays so when its publisher has gone
            return "ended"
        if self._link == "connecting":
            return "connecting" if now - self._link_since < GRACE_S else "nobody"
        return "idle"

    def describe(self, now: float) -> dict[str, Any]:
        """Give all of it, as the page takes it."""
        return {
            "phase": self.phase(now),
            "silent_s": round(now - self._heard, 1),
            "fault": self._fault,
            "fallback": self._fallback(),
            "has_raw": self.has_raw,
            "run": self._describe_run(),
            "stats": self._describe_stats(),
        }

    def _describe_run(self) -> dict[str, Any] | None:
        if self._run is None:
            return None
        card = self._run.engine.get("card")
        card = card if isinstance(card, dict) else {}
        return {
            "id": self._run.run,
            "engine": {
                key: str(self._run.engine.get(key) or "")
                for key in ("name", "model", "precision", "device")
            }
            | {"version": str(card.get("version", ""))},
            "policy": self._run.policy,
            "positions": _position_names(self._run.sequence),
        }

    def _describe_stats(self) -> dict[str, Any] | None:
        if self._stats is None:
            return None
        kept = (
            "frames",
            "planned",
            "queued",
            "capacity",
            "peak",
            "alarm",
            "camera_gaps",
            "verdicts",
        )
        times = ("latency_ms", "engine_ms", "fps")
        stats: dict[str, Any] = self._stats.model_dump(mode="json", include={*kept, *times})
        return stats

    def _fallback(self) -> str:
        """Say which engine runs instead of the one that ran its model first; else ``""``."""
        if self._run is None:
            return ""
        now = self._run.engine
        first = self._preferred.get(str(now.get("sha256")), now)
        same = all(first.get(key, now.get(key)) == now.get(key) for key in ("name", "device"))
        if same:
            return ""
        on = f" on {now['device']}" if now.get("device") else ""
        return f"{now.get('name')}{on} instead of {first.get('name')}"


def _position_names(sequence: dict[str, Any]) -> list[str]:
    """Give the names of a sequence's positions, ``""`` for those without."""
    positions = sequence.get("stage_positions")
    if not isinstance(positions, list):
        return []
    return [str(one.get("name") or "") if isinstance(one, dict) else "" for one in positions]
