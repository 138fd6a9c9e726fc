"""A benchmark's tables as Markdown, for a page such as ``docs/performance.md``."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import product
from pathlib import Path

from refocus.bench.busy import BusyRow
from refocus.bench.figures import busy_cells, figures, machine
from refocus.bench.rows import HookRow
from refocus.bench.transports import TransportRow
from refocus.configs import RefocusError

BEGIN, END = "<!-- refocus-bench -->", "<!-- /refocus-bench -->"
"""A page that has both lines has what is between them replaced, and keeps the rest."""


def write_markdown(
    path: Path,
    hooks: Sequence[HookRow],
    transports: Sequence[TransportRow],
    busy: Sequence[BusyRow] = (),
    *,
    command: str,
    seconds: float,
) -> None:
    """Write the tables into a page: between its marks, or as the whole of a new one.

    Parameters
    ----------
    path
        The page.
    hooks, transports, busy
        What was measured.
    command
        What measured it.
    seconds
        How long that took.

    Raises
    ------
    RefocusError
        See :func:`check_page`.
    """
    text = "\n".join(_page(hooks, transports, busy, command=command, seconds=seconds))
    if path.exists():
        check_page(path)
        before, begin, rest = path.read_text(encoding="utf-8").partition(BEGIN + "\n")
        _, end, after = rest.partition(END + "\n")
        text = f"{before}{begin}{text}\n{end}{after}"
    path.write_text(text, encoding="utf-8")


def check_page(path: Path) -> None:
    """Find out, before a long measurement, whether its tables can be written there.

    Raises
    ------
    RefocusError
        The page exists, and has no marks.
    """
    if path.exists():
        _, begin, rest = path.read_text(encoding="utf-8").partition(BEGIN + "\n")
        if not begin or END + "\n" not in rest:
            raise RefocusError(
                f"{path}: exists, and has no lines {BEGIN} and {END} to write between; "
                "add them, or name a new file"
            )


def _page(
    hooks: Sequence[HookRow],
    transports: Sequence[TransportRow],
    busy: Sequence[BusyRow],
    *,
    command: str,
    seconds: float,
) -> Iterator[str]:
    yield from ("```sh", f"{command}    # took {seconds:.0f} s", "```", "")
    yield f"On {machine()}."
    yield ""
    found = figures(hooks, transports, busy)
    yield from _table(
        ("figure", "wanted", "found", ""),
        ((f.what, f.wanted, f.found, "met" if f.met else "missed") for f in found),
    )
    for paced, sequencing in product((True, False), ("hardware", "software")):
        rows = [row for row in hooks if (row.paced, row.sequencing) == (paced, sequencing)]
        if rows:
            pace = "paced" if paced else "as fast as the camera can"
            yield f"{sequencing.capitalize()}-sequenced, {pace}:"
            yield ""
            yield from _hook_table(rows)
    if transports:
        yield "Transports to another process:"
        yield ""
        yield from _table(
            ("transport", "frame", "p50 / p99, ms", "over bare", "GB/s", "lost"),
            (
                (
                    f"`{row.name}`",
                    f"{row.frame}²",
                    f"{row.latency_p50_ms:.2f} / {row.latency_p99_ms:.2f}",
                    f"{row.ratio:.2f}",
                    f"{row.gb_per_s:.2f}",
                    str(row.lost),
                )
                for row in transports
            ),
        )
    if busy:
        yield "An engine of 5 ms that overlaps frames, its results read by another process:"
        yield ""
        heads = ("frame", "trusted", "busy", "alone", "worker, ms", "under way", "received")
        yield from _table(heads, map(busy_cells, busy))


def _hook_table(rows: Sequence[HookRow]) -> Iterator[str]:
    heads = ("frame", "load", "way", "fps", "ratio", "lost", "latency p50 / p99, ms")
    return _table(
        (*heads, "callback p99, µs", "peak, MB", "of the engine alone", "runs"),
        (
            (
                f"{row.frame}²",
                f"{row.load:g}",
                f"**`{row.name}`**" if row.name == "refocus" else f"`{row.name}`",
                f"{row.fps:.0f}",
                f"{row.ratio:.3f}",
                str(row.lost),
                f"{row.latency_p50_ms:.1f} / {row.latency_p99_ms:.1f}",
                f"{row.callback_p99_us:.0f}",
                f"{row.peak_mb:.0f}",
                f"{row.busy:.2f}" if row.name != "none" else "",
                str(row.runs),
            )
            for row in rows
        ),
    )


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(heads)} |"
    yield f"|{'---|' * len(heads)}"
    for row in rows:
        yield f"| {' | '.join(row)} |"
    yield ""
