"""What ``refocus-live`` shows of a run: how its own gets on, a line each for another's."""

import json
import time
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import Progress

from refocus.configs.command import printable
from refocus.configs.terminal import how_many

if TYPE_CHECKING:
    from refocus.acquisition.command.sources import Source
    from refocus.acquisition.pipeline.stats import Stats
    from refocus.engine.protocol import Engine
    from refocus.stream.messages import EndHeader, RunHeader, StatsHeader
    from refocus.stream.subscriber import ReceivedFrame


class Terminal:
    """Shows on a progress bar how a run is getting on (a ``session.Watcher``)."""

    def __init__(self, bar: Progress, console: Console) -> None:
        self._bar = bar
        self._console = console
        self._task = bar.add_task("getting ready", total=None, figures="")
        self._recent: deque[tuple[float, int]] = deque(maxlen=20)

    def waiting(self, subscribers: int, endpoint: str) -> None:
        """Say that the run waits for subscribers."""
        text = f"waiting for {how_many(subscribers, 'subscriber')} on {endpoint}"
        self._bar.update(self._task, description=text)
        if not self._console.is_terminal:
            self._console.print(text)

    def publishing(self, endpoint: str) -> None:
        """Say which endpoint was chosen."""
        self._console.print(f"publishing on {endpoint}")

    def begin(self, source: "Source", engine: "Engine") -> None:
        """Say that frames are about to come, and which model refocuses them."""
        card = engine.info.card
        if card is not None and self._console.is_terminal:
            said = f"{card.name} {card.version} by {engine.info.name}"
            self._console.print(said, style="dim", markup=False, highlight=False)
        self._bar.update(self._task, description="refocusing", total=source.frames)

    def progress(self, stats: "Stats") -> None:
        """Show counts, live rate and latency."""
        self._recent.append((time.monotonic(), stats.published))
        (then, before), (now, published) = self._recent[0], self._recent[-1]
        rate = (published - before) / (now - then) if now > then else 0.0
        lost = "".join(
            f"  {count} {name}"
            for name, count in (
                ("deferred", stats.deferred),
                ("dropped", stats.dropped),
                ("failed", stats.failed),
            )
            if count
        )
        figures = f"{rate:5.1f} fps  {stats.latency_ms.p50:6.1f} ms  {stats.queued} waiting{lost}"
        done = stats.received + stats.skipped - stats.in_flight - stats.deferred
        self._bar.update(self._task, completed=done, figures=figures)

    def cancelling(self) -> None:
        """Say what is waited for, and how to leave it."""
        with suppress(OSError):  # the terminal may be what was closed
            self._console.print("waiting for the camera to end its frame; Ctrl-C leaves it alone")

    def judging(self) -> None:
        """Say that results are being compared with their references."""
        self._bar.update(self._task, description="measuring", figures="")


def describe(message: "ReceivedFrame | RunHeader | StatsHeader | EndHeader") -> str:
    """Give the line that ``watch`` prints for a message; empty for the counts in between."""
    return printable(_describe(message))


def _describe(message: "ReceivedFrame | RunHeader | StatsHeader | EndHeader") -> str:
    from refocus.stream.messages import EndHeader, RunHeader, StatsHeader

    if isinstance(message, RunHeader):
        return (
            f"run {message.run[:8]}  {message.engine.get('name')} {message.engine.get('model')}"
            f"  policy {message.policy}"
        )
    if isinstance(message, EndHeader):
        counts: dict[str, Any] = message.frames
        return f"end {message.run[:8]}  " + "  ".join(f"{n} {k}" for k, n in counts.items())
    if isinstance(message, StatsHeader):
        return ""
    header = message.header
    index = " ".join(f"{axis}={place}" for axis, place in header.index.items())
    times = header.times_ms
    parts = [
        f"{header.number:6d}",
        f"{header.shape[1]}×{header.shape[0]} {header.dtype}",
        index,
        header.channel,
        header.source,
        f"{times.published:.1f} ms ({times.engine:.1f} in the engine)",
        "" if header.trust is None else header.trust.verdict,
        "" if header.focus is None else f"{header.focus.distance_um:.1f} µm from focus",
    ]
    if message.lost:
        parts.insert(0, f"LOST {message.lost} before")
    return "  ".join(part for part in parts if part)


def describe_json(message: "ReceivedFrame | RunHeader | StatsHeader | EndHeader") -> str:
    """Give a message's header as a line of JSON, with its topic, and what was lost before it."""
    from refocus.stream.messages import END, FRAME, RUN, STATS, EndHeader, RunHeader
    from refocus.stream.subscriber import ReceivedFrame

    if isinstance(message, ReceivedFrame):
        topic, content = FRAME, message.header.model_dump(mode="json", by_alias=True)
        content["lost"] = message.lost
    else:
        known = {RunHeader: RUN, EndHeader: END}
        topic, content = known.get(type(message), STATS), message.model_dump(by_alias=True)
    line = json.dumps({"topic": topic.decode(), **content}, ensure_ascii=False)
    return line if line.isprintable() else json.dumps({"topic": topic.decode(), **content})
