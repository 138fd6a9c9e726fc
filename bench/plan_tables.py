"""Plans, what they are made of, and how near they came, as tables and as JSON."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from rich.table import Table

from refocus.bench.figures import machine
from refocus.bench.planning import Plan, Rates
from refocus.bench.rates import H200_MPX_S, Check

HERE = "measured here"


def tables(
    rates: Rates, network: float, plans: Sequence[Plan], checks: Sequence[Check]
) -> Iterator[Table]:
    """Lay out rates, plans and checks."""
    made_of = _table(f"Rates, on {machine()}", "rate", "", "from")
    for line in _rates(rates, network):
        made_of.add_row(*line)
    yield made_of
    table = _table(
        "How long, and how much disk", "data", "where", "time", "limit", "result", "kept"
    )
    for one in plans:
        result, kept = (said_bytes(n) for n in (one.result_bytes, one.kept_bytes))
        table.add_row(
            one.data.name, one.nodes.name, said_time(one.seconds), one.limit, result, kept
        )
    yield table
    table = _table("The model beside runs of this machine", "run", "model, s", "run, s", "ratio")
    for run in checks:
        times = (f"{n:.1f}" for n in (run.predicted.seconds, run.seconds))
        table.add_row(run.predicted.data.name, *times, f"{run.ratio:.2f}")
    yield table


def as_json(
    rates: Rates, network: float, plans: Sequence[Plan], checks: Sequence[Check]
) -> dict[str, Any]:
    """Give the same for a script: seconds, bytes, and pixels a second."""
    return {
        "rates": {**asdict(rates), "network": network, "h200": H200_MPX_S * 1e6},
        "plans": [
            {
                "data": one.data.name,
                "where": one.nodes.name,
                "seconds": one.seconds,
                "limit": one.limit,
                "parts": dict(one.parts),
                "result_bytes": one.result_bytes,
                "kept_bytes": one.kept_bytes,
            }
            for one in plans
        ],
        "checks": [
            {
                "data": run.predicted.data.name,
                "predicted_s": run.predicted.seconds,
                "seconds": run.seconds,
                "ratio": run.ratio,
            }
            for run in checks
        ],
    }


def said_time(seconds: float) -> str:
    """Say a time in the unit that a person would."""
    for unit, length in (("days", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * length:
            return f"{seconds / length:.3g} {unit}"
    return f"{seconds:.3g} s"


def said_bytes(count: float) -> str:
    """Say a size in the unit that a person would."""
    for unit, length in (("TB", 1e12), ("GB", 1e9)):
        if count >= length:
            return f"{count / length:.3g} {unit}"
    return f"{count / 1e6:.3g} MB"


def _rates(rates: Rates, network: float) -> Iterator[tuple[str, str, str]]:
    yield "engine, one thread", f"{rates.engine / 1e6:.2f} Mpx/s", HERE
    yield "an H200, judged", f"{H200_MPX_S:.0f} Mpx/s", "docs/gpu.md, 2048²"
    yield "command beside the engine", f"{rates.files / 1e6:.2f} Mpx/s", HERE
    yield "each plane", f"{rates.plane_s * 1e3:.1f} ms", HERE
    yield "start", f"{rates.start_s:.1f} s", HERE
    yield "disk, read", f"{rates.disk_read / 1e6:.0f} MB/s", HERE
    yield "disk, written", f"{rates.disk_write / 1e6:.0f} MB/s", HERE
    yield "network of a share", f"{network / 1e6:.0f} MB/s", "told: --network"


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left")
    for number, column in enumerate(columns):
        table.add_column(column, justify="left" if number == 0 else "right")
    return table
