"""The command ``refocus-live``: reading options, showing progress, printing results."""

import json
import logging
import os
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from refocus.configs import Incomplete, RefocusError
from refocus.configs.command import (
    TERMINATED,
    JsonOption,
    allow_open_files,
    check_options,
    command_app,
    examples,
    make_console,
    options_of,
    run_command,
)
from refocus.configs.live_config import LiveConfig, RefocusOptions, load_live_config
from refocus.configs.terminal import Stopped, log_to, progress_bar, raise_once

if TYPE_CHECKING:
    from refocus.recorded.refocusing import Processed

app = command_app(
    "refocus-live", "Refocus microscope frames live, as they are captured.", no_args_is_help=True
)
out, err = make_console(), make_console(stderr=True)

RUN_EXAMPLES = """
[bold]Examples[/bold]

refocus-live run --demo --report demo/report.json

refocus-live run --replay out_of_focus/ --reference in_focus/ --report r.json

refocus-live run --mm-config MMConfig.cfg --sequence timelapse.yaml --save run1/

refocus-live run --demo --frames 1000 --fps 20 --publish tcp://127.0.0.1:5556 --wait-subscribers 1
"""
KEYS_EXAMPLES = examples("refocus-live keys keys/", "refocus-live keys keys/ --reader tablet")
WATCH_EXAMPLES = examples(
    "refocus-live watch tcp://127.0.0.1:5556",
    "refocus-live watch tcp://127.0.0.1:5556 --runs 0 --json",
)
PROCESS_EXAMPLES = """
[bold]Examples[/bold]

refocus-live process raw.ome.zarr refocused.ome.zarr

refocus-live process scan.ome.tiff refocused.ome.tiff

refocus-live process images/ refocused/
"""


FINISH_EXAMPLES = examples("refocus-live finish run1/", "refocus-live finish run1/ --engine m.onnx")


@app.command(epilog=RUN_EXAMPLES)
@options_of(LiveConfig)
def run(
    given: dict[str, Any],
    config: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="YAML file of these options; those given here win."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Acquire, and refocus every frame as it is captured."""
    settings = load_live_config(config, given)
    from refocus.acquisition.command.report import report_table
    from refocus.acquisition.command.session import run as run_live
    from refocus.acquisition.command.terminal import Terminal

    with progress_bar(err) as bar:
        outcome = run_live(settings, Terminal(bar, err))
    if as_json:
        print(json.dumps(outcome.report, indent=2))
    else:
        out.print(report_table(outcome.report, outcome.nothing))
        for path in outcome.files:
            out.print(f"[dim]wrote[/dim]  {path}")
    if outcome.error is not None:
        raise outcome.error


@app.command(epilog=KEYS_EXAMPLES)
def keys(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where to put them.")],
    reader: Annotated[
        str, typer.Option(metavar="NAME", help="Whom they are for; run it again for another.")
    ] = "reader",
) -> None:
    """Make the keys with which frames are published beyond this host."""
    from refocus.stream.keys import make_keys

    ours, theirs = make_keys(folder, reader)
    out.print(f"publish with   --keys {ours}")
    out.print(f"read with      --keys {theirs}   (take that folder to the reader; keep it safe)")


@app.command(epilog=WATCH_EXAMPLES)
def watch(  # noqa: PLR0917
    endpoint: Annotated[str, typer.Argument(help="Where frames are published.")],
    runs: Annotated[
        int, typer.Option(metavar="N", min=0, help="Stop after N runs; 0 never stops.")
    ] = 1,
    timeout: Annotated[
        float | None, typer.Option(metavar="S", min=0.1, help="Give up after S seconds of silence.")
    ] = None,
    keys: Annotated[
        Path | None, typer.Option(metavar="DIR", help="The reader's folder of keys.")
    ] = None,
    as_json: Annotated[
        bool,
        typer.Option(
            "--json", metavar="", help="Print every header, a line of JSON each, for scripts."
        ),
    ] = False,
    shared_memory: Annotated[
        bool,
        typer.Option(
            "--shared-memory",
            metavar="",
            help="Take the pixels from memory that a run on this host shares.",
        ),
    ] = False,
) -> None:
    """Print the frames that a run publishes, and the gaps between them."""
    from refocus.acquisition.command.terminal import describe, describe_json
    from refocus.stream.subscriber import subscribe

    with subscribe(
        endpoint, timeout, runs=runs or None, keys=keys, shared_memory=shared_memory
    ) as subscription:
        if err.is_terminal:
            err.print(f"[dim]listening on {endpoint}[/dim]")
        announced = ""
        for message in subscription.messages():
            line = describe_json(message) if as_json else describe(message)
            if line and line != announced:  # runs are announced again and again
                print(line, flush=True)
            announced = line if line.startswith("run") else announced


@app.command(epilog=PROCESS_EXAMPLES)
@options_of(RefocusOptions, "engine", "channels", "region", "refocus_z", "on_distrust", "optics")
def process(
    given: dict[str, Any],
    source: Annotated[
        Path, typer.Argument(metavar="IN", help="OME-Zarr, OME-TIFF, or a folder of images.")
    ],
    target: Annotated[Path, typer.Argument(metavar="OUT", help="What to make; it must be new.")],
    as_json: JsonOption = False,
) -> None:
    """Refocus data that already exist: same format, axes, metadata and names."""
    from refocus.engine import open_engine
    from refocus.recorded.process import count_planes
    from refocus.recorded.process import process as process_data
    from refocus.recorded.selection import Selection

    options = check_options(RefocusOptions, given)
    total = count_planes(source)
    opened = open_engine(options.engine)
    begun = time.monotonic()
    try:
        with progress_bar(err) as bar:
            task = bar.add_task("refocusing", total=total, figures="")

            def show(done: "Processed") -> None:
                seconds = max(time.monotonic() - begun, 1e-3)
                count = done.refocused + done.failed + done.as_captured.total()
                failed = f"  {done.failed} failed" if done.failed else ""
                bar.update(task, completed=count, figures=f"{count / seconds:.1f} planes/s{failed}")

            done = process_data(
                source,
                target,
                opened,
                on_plane=show,
                on_distrust=options.on_distrust,
                optics=options.optics,
                selection=Selection(options.channels, options.region, options.refocus_z),
            )
    finally:
        opened.close()
    seconds = time.monotonic() - begun
    if as_json:
        facts = {
            "refocused": done.refocused,
            "failed": done.failed,
            "as_captured": dict(done.as_captured),
            "verdicts": dict(done.verdicts),
            "seconds": round(seconds, 3),
        }
        print(json.dumps({**facts, "engine": opened.info.describe(), "output": str(target)}))
    else:
        out.print(f"{done.refocused} planes refocused in {seconds:.1f} s by {opened.info.name}")
        out.print(", ".join(f"{count} {verdict}" for verdict, count in done.verdicts.items()))
        for why, count in done.as_captured.items():
            out.print(f"{count} planes stay as captured: {why}", markup=False)
        out.print(f"[dim]wrote[/dim]  {target}")
    if done.failed:
        raise RefocusError(
            f"{target}: {done.failed} planes are missing, because the engine failed on them; "
            "the lines above say why"
        )


@app.command(epilog=FINISH_EXAMPLES)
@options_of(RefocusOptions, "engine")
def finish(
    given: dict[str, Any],
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="What --save of the run named.")],
    as_json: JsonOption = False,
) -> None:
    """Refocus what a run that was saved still owes, after a kill."""
    from refocus.acquisition.command.finish import Finished, SavedRun, count_raw
    from refocus.acquisition.command.finish import finish as finish_run
    from refocus.engine import open_engine

    options = check_options(RefocusOptions, given)
    saved = SavedRun(folder)
    opened = open_engine(options.engine)
    try:
        with progress_bar(err) as bar:
            task = bar.add_task("refocusing", total=count_raw(saved), figures="")

            def show(done: Finished) -> None:
                figures = f"{done.refocused} refocused"
                bar.update(task, completed=done.raw, figures=figures)

            done = finish_run(saved, opened, show)
    finally:
        opened.close()
    if as_json:
        facts = {**vars(done), "partners": done.partners, "engine": opened.info.describe()}
        print(json.dumps(facts))
    else:
        added = done.refocused + done.handed_on
        out.print(f"{added} frames added" if added else "nothing was owed")
        wanted = done.raw - done.left_out
        out.print(f"{done.partners} of {wanted} raw frames have their partner")
        out.print(f"[dim]wrote[/dim]  {saved.refocused}")
    if done.failed:
        raise Incomplete(
            f"{saved.refocused}: {done.failed} frames are still missing; the lines above say why"
        )


def main() -> None:
    """Run the command, and turn what goes wrong into one line and an exit status."""
    sys.exit(_main())


def _main() -> int:
    os.environ.setdefault("PYMM_LOG_LEVEL", "CRITICAL")  # what it warns of is told in our words
    log_to(err, "refocus-live")
    logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # a broken file has a line of ours
    raise_once(Stopped, signal.SIGTERM)
    raise_once(KeyboardInterrupt, signal.SIGINT)
    allow_open_files()
    kept = "what was captured is kept"
    return run_command(
        app, f"interrupted; {kept}", endings={Stopped: (f"terminated; {kept}", TERMINATED)}
    )
