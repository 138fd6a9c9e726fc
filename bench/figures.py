"""What a benchmark comes to: its tables, and the figures this project means to reach."""

import os
import platform
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.table import Table

from refocus.bench.busy import BARE_SIDE, BusyRow
from refocus.bench.rows import HookRow
from refocus.bench.transports import TransportRow

OURS = "refocus"


@dataclass(frozen=True)
class Figure:
    """One figure: what it is, what it should be and is, and whether that will do."""

    what: str
    wanted: str
    found: str
    met: bool


def figures(
    hooks: Sequence[HookRow], transports: Sequence[TransportRow], busy: Sequence[BusyRow]
) -> list[Figure]:
    """Compare rows with the figures to reach; those that the rows do not tell are left out."""
    return [*_hook_figures(hooks), *_transport_figures(transports), *_busy_figures(busy)]


def _hook_figures(rows: Sequence[HookRow]) -> Iterator[Figure]:
    ours = [row for row in rows if row.name == OURS]
    slow = [row for row in ours if row.paced and row.load > 1]
    if slow:
        yield _at_least("rate over 'none', paced, engine slower than the camera", slow, 0.99)
    unpaced = [row for row in ours if not row.paced]
    if unpaced:
        yield _at_least("rate over 'none', unpaced", unpaced, 0.85)
        ahead = [row for row in unpaced if row.ratio >= _best_other(row, rows)]
        yield Figure(
            "unpaced rows ahead of every other way of hooking",
            f"{len(unpaced)}",
            f"{len(ahead)}",
            len(ahead) == len(unpaced),
        )
    paced = [row for row in ours if row.paced]
    if paced:
        worst = max(row.callback_p99_us for row in paced)
        by_frame = [
            max(row.callback_p99_us for row in paced if row.frame == frame)
            for frame in sorted({row.frame for row in paced})
        ]
        each = " / ".join(f"{us:.0f}" for us in by_frame)
        yield Figure("p99 in the callback, paced, µs, by frame", "≤ 100", each, worst <= 100)
    if ours:
        for pace, those in (("paced", paced), ("unpaced", unpaced)):
            if those:
                least = min(row.busy for row in those)
                what = f"frames published, over those of the engine alone, {pace}"
                yield Figure(what, "≥ 0.95", f"{least:.2f}", least >= 0.95)
        lost = sum(row.lost for row in ours)
        yield Figure("raw frames lost with the hook", "0", f"{lost}", lost == 0)


def _transport_figures(rows: Sequence[TransportRow]) -> Iterator[Figure]:
    ours = [row for row in rows if row.name.startswith("publisher-")]
    if ours:
        worst = max(row.ratio for row in ours)
        what = "capture to subscriber less engine, over the bare transport"
        yield Figure(what, "≤ 1.5", f"{worst:.2f}", worst <= 1.5)
    largest = max((row.frame for row in rows), default=0)
    by_name = {row.name: row.gb_per_s for row in rows if row.frame == largest}
    for shared, tcp in (("shared-memory", "tcp"), ("publisher-shared-memory", "publisher-tcp")):
        if by_name.get(tcp) and shared in by_name:
            times = by_name[shared] / by_name[tcp]
            what = f"throughput at {largest}², {shared} over {tcp}"
            yield Figure(what, "≥ 3", f"{times:.1f}", times >= 3)


def _busy_figures(rows: Sequence[BusyRow]) -> Iterator[Figure]:
    for row in rows:
        if row.frame == BARE_SIDE:
            share = row.worker_ms / row.engine_ms
            what = (
                f"worker's time for a frame without pixels, over an engine of {row.engine_ms:g} ms"
            )
            yield Figure(what, "≤ 0.10", f"{share:.2f}", share <= 0.1)
        else:
            what = f"time that an engine of {row.engine_ms:g} ms is busy, {row.frame}², "
            what += "trusted" if row.trusted == 1 else f"{row.trusted:.0%} of the tiles trusted"
            yield Figure(what, "≥ 0.95", f"{row.busy:.2f}", row.busy >= 0.95)


def _at_least(what: str, rows: Sequence[HookRow], wanted: float) -> Figure:
    least = min(row.ratio for row in rows)
    return Figure(what, f"≥ {wanted:g}", f"{least:.3f}", least >= wanted)


def _best_other(row: HookRow, rows: Sequence[HookRow]) -> float:
    same = (row.frame, row.sequencing, row.paced, row.load)
    return max(
        (
            other.ratio
            for other in rows
            if other.name not in (OURS, "none")
            and (other.frame, other.sequencing, other.paced, other.load) == same
        ),
        default=0.0,
    )


def tables(
    hooks: Sequence[HookRow], transports: Sequence[TransportRow], busy: Sequence[BusyRow]
) -> Iterator[Table]:
    """Lay out what was measured, and what it comes to."""
    if hooks:
        yield _hook_table(hooks)
    if transports:
        yield _transport_table(transports)
    if busy:
        yield _busy_table(busy)
    yield _figure_table(figures(hooks, transports, busy))


def _hook_table(rows: Sequence[HookRow]) -> Table:
    """Lay out the ways of hooking, case by case."""
    table = Table(title="Ways of hooking", title_justify="left", caption_justify="left")
    table.caption = (
        "ratio: acquisition rate over 'none' in the same round; lost: raw frames; latency: from "
        "exposure to refocused\n('none': the engine alone); done: frames refocused, and that over "
        "what the engine alone does in the time"
    )
    for name in ("case", "way"):
        table.add_column(name, no_wrap=True)
    for name in ("fps", "ratio", "lost", "p50 ms", "p99 ms", "callback µs", "MB", "done", "busy"):
        table.add_column(name, justify="right", no_wrap=True)
    last = ""
    for row in rows:
        pace = "paced" if row.paced else "unpaced"
        case = f"{row.frame}² {row.sequencing} {pace} ×{row.load:g}"
        if last not in ("", case):
            table.add_section()
        hooked = row.name != "none"
        table.add_row(
            case if case != last else f"[dim]median of {row.runs}[/dim]" if not hooked else "",
            f"[bold]{row.name}[/bold]" if row.name == OURS else row.name,
            f"{row.fps:.1f}",
            f"{row.ratio:.3f}",
            str(row.lost),
            f"{row.latency_p50_ms:.2f}",
            f"{row.latency_p99_ms:.2f}",
            f"{row.callback_p99_us:.0f}",
            f"{row.peak_mb:.0f}",
            str(row.refocused) if hooked else "",
            f"{row.busy:.2f}" if hooked else "",
        )
        last = case
    return table


def _transport_table(rows: Sequence[TransportRow]) -> Table:
    """Lay out the transports."""
    table = Table(title="Transports to another process", title_justify="left")
    table.add_column("transport", no_wrap=True)
    for name in ("frame", "p50 ms", "p99 ms", "over bare", "fps", "GB/s", "lost"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(
            row.name,
            f"{row.frame}²",
            f"{row.latency_p50_ms:.2f}",
            f"{row.latency_p99_ms:.2f}",
            f"{row.ratio:.2f}",
            f"{row.fps:.0f}",
            f"{row.gb_per_s:.2f}",
            str(row.lost),
        )
    return table


def _busy_table(rows: Sequence[BusyRow]) -> Table:
    """Lay out the runs of an engine that overlaps frames."""
    table = Table(title="An engine of 5 ms that overlaps frames", title_justify="left")
    for name in ("frame", "trusted", "busy", "alone", "worker ms", "under way", "received"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(*busy_cells(row))
    return table


def busy_cells(row: BusyRow) -> tuple[str, ...]:
    """Give what both tables say of such a run."""
    return (
        f"{row.frame}²",
        f"{row.trusted:.2f}",
        f"{row.busy:.3f}",
        f"{row.alone:.3f}",
        f"{row.worker_ms:.2f}",
        str(row.under_way),
        f"{row.received} of {row.published}",
    )


def _figure_table(found: Sequence[Figure]) -> Table:
    """Lay out the figures."""
    table = Table(title=f"Figures to reach, on {machine()}", title_justify="left")
    table.add_column("figure")
    for name in ("wanted", "found", ""):
        table.add_column(name, justify="right", no_wrap=True)
    for figure in found:
        met = "[green]met[/green]" if figure.met else "[red]missed[/red]"
        table.add_row(figure.what, figure.wanted, figure.found, met)
    return table


def machine() -> str:
    """Say what this was measured on."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    python = platform.python_version()
    return f"{cores} cores, {platform.system()} {platform.machine()}, Python {python}"
