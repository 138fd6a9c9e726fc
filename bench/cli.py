"""The command ``refocus-bench``: what refocusing costs an acquisition, and recorded data.

Five ways of hooking are compared in one run, on the simulated microscope, with the same frames and
the same engine: calibrated work of the processor that releases the GIL. So are the transports.
Last, whether a run keeps an engine busy that overlaps frames as one on a GPU does. ``scale`` plans
for slides and plates.
"""

import json
import logging
import os
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from refocus.configs import RefocusError
from refocus.configs.command import (
    JsonOption,
    command_app,
    examples,
    make_console,
    run_command,
    wrote,
)
from refocus.configs.terminal import progress_bar

if TYPE_CHECKING:
    from refocus.bench.busy import BusyRow
    from refocus.bench.rows import HookRow
    from refocus.bench.transports import TransportRow

PARTS = ("hooks", "transports", "busy")

app = command_app(
    "refocus-bench",
    help="""Measure what refocusing costs an acquisition, beside other ways of doing it.

    Leave the machine alone meanwhile: rates are compared within one run, but any other program
    takes the place of the engine.
    """,
)
err = make_console(stderr=True)

EXAMPLES = """
[bold]Examples[/bold]

refocus-bench --quick

refocus-bench --json bench.json --plot bench.png --markdown bench.md
"""


SCALE_EXAMPLES = examples(
    "refocus-bench scale",
    "refocus-bench scale --network 120 --json > plan.json",
)


@app.callback(invoke_without_command=True, epilog=EXAMPLES)
def bench(  # noqa: PLR0917
    context: typer.Context,
    quick: Annotated[
        bool, typer.Option("--quick", help="A minute instead of a quarter of an hour: less sure.")
    ] = False,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write the rows there, too.")
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw them into this PNG file.")
    ] = None,
    markdown: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Write the tables there as Markdown; of a page with the lines "
            "<!-- refocus-bench --> and <!-- /refocus-bench -->, only what is between them.",
        ),
    ] = None,
    only: Annotated[
        str | None,
        typer.Option(metavar="PART", help="[b]hooks[/b], [b]transports[/b] or [b]busy[/b] alone."),
    ] = None,
) -> None:
    """Measure hooks, transports and whether an engine is kept busy, where no command is named."""
    if context.invoked_subcommand is not None:
        if quick or json_file or plot or markdown or only:
            name = context.invoked_subcommand
            raise RefocusError(f"options of {name} stand behind it: refocus-bench {name} --help")
        return
    if only is not None and only not in PARTS:
        raise RefocusError(f"--only {only}: not known; choose {', '.join(PARTS)}")
    for path in (json_file, plot, markdown):
        if path is not None and not path.absolute().parent.is_dir():
            raise RefocusError(f"{path}: there is no such folder; make it first")
    os.environ.setdefault("PYMM_LOG_LEVEL", "CRITICAL")  # overflowing rings are expected here
    logging.getLogger("refocus").setLevel(logging.CRITICAL)
    from refocus.bench import figures as bench_figures
    from refocus.bench import markdown as bench_markdown
    from refocus.bench.rows import as_json

    if markdown is not None:
        bench_markdown.check_page(markdown)
    begun = time.monotonic()
    hooks, transports, busy = _measure(PARTS if only is None else (only,), quick)
    rows = {
        "hooks": [as_json(row) for row in hooks],
        "transports": [as_json(row) for row in transports],
        "busy": [as_json(row) for row in busy],
    }
    if json_file is not None:
        json_file.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    if plot is not None:
        from refocus.bench.plot import save_plot

        save_plot(plot, hooks, transports)
    seconds = time.monotonic() - begun
    if markdown is not None:
        command = shlex.join(["refocus-bench", *sys.argv[1:]])
        bench_markdown.write_markdown(
            markdown, hooks, transports, busy, command=command, seconds=seconds
        )
    out = Console(highlight=False)
    out = out if out.is_terminal else Console(highlight=False, width=140)
    for table in bench_figures.tables(hooks, transports, busy):
        out.print(table)
    out.print(f"took {seconds:.0f} s")
    for path in filter(None, (json_file, plot, markdown)):
        out.print(wrote(path))


@app.command(epilog=SCALE_EXAMPLES)
def scale(
    engine: Annotated[
        str, typer.Option(metavar="ENGINE", help="As of [b]refocus-live process[/b].")
    ] = "auto",
    network: Annotated[
        float,
        typer.Option(
            metavar="MB/S",
            min=1.0,
            help="What a share gives to all nodes together; 1250 is 10 Gbit/s.",
        ),
    ] = 1250.0,
    quick: Annotated[
        bool, typer.Option("--quick", help="Small data: less sure, most of all of the check.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Plan for slides and plates: how long, how much disk, and what limits it.

    Measures what this machine does with small data, and checks the model beside runs of it.
    """
    from refocus.bench import plan_tables, rates
    from refocus.bench.planning import CAMPAIGN, PLATE, SLIDE, plan

    sizes = rates.QUICK if quick else rates.Sizes()
    with progress_bar(err, "") as bar:
        task = bar.add_task("", total=None, figures="")

        def progress(what: str) -> None:
            bar.update(task, description=what)

        found = rates.measure_rates(engine, sizes, progress)
        checks = list(rates.check(engine, found, sizes, progress))
    share = network * 1e6
    kinds = list(rates.kinds_of(found, share))
    plans = [plan(data, nodes) for data in (SLIDE, PLATE, CAMPAIGN) for nodes in kinds]
    if as_json:
        print(json.dumps(plan_tables.as_json(found, share, plans, checks)))
        return
    out = Console(highlight=False)
    out = out if out.is_terminal else Console(highlight=False, width=140)
    for table in plan_tables.tables(found, share, plans, checks):
        out.print(table)


def _measure(
    parts: Sequence[str], quick: bool
) -> "tuple[list[HookRow], list[TransportRow], list[BusyRow]]":
    from refocus.bench import busy as bench_busy
    from refocus.bench import rows as bench_rows
    from refocus.bench import transports as bench_transports

    hooks: list[HookRow] = []
    transports: list[TransportRow] = []
    busy: list[BusyRow] = []
    # drawing takes the processor from what is measured
    with progress_bar(err, "", per_second=1) as bar:
        task = bar.add_task("", total=1.0, figures="")

        def progress(text: str, done: float) -> None:
            bar.update(task, description=text, completed=done)

        if "hooks" in parts:
            plan = bench_rows.QUICK if quick else bench_rows.Plan()
            hooks = bench_rows.measure_hooks(plan, progress)
        if "transports" in parts:
            sending = bench_transports.QUICK if quick else bench_transports.Sending()
            transports = bench_transports.measure_transports(sending, progress)
        if "busy" in parts:
            keeping = bench_busy.QUICK if quick else bench_busy.Keeping()
            busy = bench_busy.measure_busy(keeping, progress)
    return hooks, transports, busy


def main() -> None:
    """Run the command, and turn what goes wrong into one line and an exit status."""
    sys.exit(_main())


def _main() -> int:
    return run_command(app, "interrupted")


if __name__ == "__main__":
    main()
