"""The command ``refocus-bench``: what refocusing costs an acquisition, and publishing a frame.

Five ways of hooking are compared in one run, on the simulated microscope, with the same frames and
the same engine: calibrated work of the processor that releases the GIL. So are the transports.
"""

import json
import logging
import os
import shlex
import sys
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from refocus.configs import RefocusError
from refocus.configs.command import command_app, make_console, run_command
from refocus.configs.terminal import progress_bar

PARTS = ("hooks", "transports")

app = command_app("refocus-bench")
err = make_console(stderr=True)

EXAMPLES = """
[bold]Examples[/bold]

refocus-bench --quick

refocus-bench --json bench.json --plot bench.png --markdown bench.md
"""


@app.command(epilog=EXAMPLES)
def bench(
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
        str | None, typer.Option(metavar="PART", help="[b]hooks[/b] or [b]transports[/b] alone.")
    ] = None,
) -> None:
    """Measure what refocusing costs an acquisition, beside other ways of doing it.

    Leave the machine alone meanwhile: rates are compared within one run, but any other program
    takes the place of the engine.
    """
    if only is not None and only not in PARTS:
        raise RefocusError(f"--only {only}: not known; choose {' or '.join(PARTS)}")
    for path in (json_file, plot, markdown):
        if path is not None and not path.absolute().parent.is_dir():
            raise RefocusError(f"{path}: there is no such folder; make it first")
    os.environ.setdefault("PYMM_LOG_LEVEL", "CRITICAL")  # overflowing rings are expected here
    logging.getLogger("refocus").setLevel(logging.CRITICAL)
    from refocus.bench import figures as bench_figures
    from refocus.bench import markdown as bench_markdown
    from refocus.bench import rows as bench_rows
    from refocus.bench import transports as bench_transports

    if markdown is not None:
        bench_markdown.check_page(markdown)
    begun = time.monotonic()
    hooks: list[bench_rows.HookRow] = []
    transports: list[bench_transports.TransportRow] = []
    # drawing takes the processor from what is measured
    with progress_bar(err, "", per_second=1) as bar:
        task = bar.add_task("", total=1.0, figures="")

        def progress(text: str, done: float) -> None:
            bar.update(task, description=text, completed=done)

        if only in (None, "hooks"):
            plan = bench_rows.QUICK if quick else bench_rows.Plan()
            hooks = bench_rows.measure_hooks(plan, progress)
        if only in (None, "transports"):
            sending = bench_transports.QUICK if quick else bench_transports.Sending()
            transports = bench_transports.measure_transports(sending, progress)
    rows = {
        "hooks": [bench_rows.as_json(row) for row in hooks],
        "transports": [bench_rows.as_json(row) for row in transports],
    }
    if json_file is not None:
        json_file.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    if plot is not None:
        from refocus.bench.plot import save_plot

        save_plot(plot, hooks, transports)
    seconds = time.monotonic() - begun
    if markdown is not None:
        command = shlex.join(["refocus-bench", *sys.argv[1:]])
        bench_markdown.write_markdown(markdown, hooks, transports, command=command, seconds=seconds)
    out = Console(highlight=False)
    out = out if out.is_terminal else Console(highlight=False, width=140)
    if hooks:
        out.print(bench_figures.hook_table(hooks))
    if transports:
        out.print(bench_figures.transport_table(transports))
    out.print(bench_figures.figure_table(bench_figures.figures(hooks, transports)))
    out.print(f"took {seconds:.0f} s")
    for path in filter(None, (json_file, plot, markdown)):
        out.print(f"[dim]wrote[/dim]  {path}", soft_wrap=True)


def main() -> None:
    """Run the command, and turn what goes wrong into one line and an exit status."""
    sys.exit(_main())


def _main() -> int:
    return run_command(app, "interrupted")


if __name__ == "__main__":
    main()
