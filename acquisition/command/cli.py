"""The command ``refocus-live``: reading options, showing progress, printing results."""

import json
import logging
import os
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from refocus.acquisition.command.upstream import log_where_possible
from refocus.configs import Incomplete
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
    wrote,
)
from refocus.configs.light_path import UNKNOWN
from refocus.configs.live_config import LiveConfig, RefocusOptions, load_live_config
from refocus.configs.terminal import (
    Stopped,
    end_on_signals,
    ending_with,
    how_many,
    log_to,
    progress_bar,
)

if TYPE_CHECKING:
    from refocus.engine.protocol import EngineInfo
    from refocus.recorded.work import Processed

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
DOCTOR_EXAMPLES = examples("refocus-live doctor", "refocus-live doctor --json")
MODELS_EXAMPLES = examples("refocus-live models", "refocus-live models mine.onnx --json")
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
    from refocus.acquisition.command.report import report_lines
    from refocus.acquisition.command.session import run as run_live
    from refocus.acquisition.command.terminal import Terminal

    with progress_bar(err) as bar:
        outcome = run_live(settings, Terminal(bar, err), typed=given)
    if as_json:
        print(json.dumps(outcome.report, indent=2))
    else:
        out.print(report_lines(outcome.report))
        for path in outcome.files:
            out.print(wrote(path))
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


@app.command(epilog=DOCTOR_EXAMPLES)
def doctor(as_json: JsonOption = False) -> None:
    """Look at what is installed and whether it runs; say the mend of what does not."""
    from refocus.acquisition.command.doctor import Finding, examine

    colours = {"good": "green", "absent": "yellow", "bad": "red"}
    findings: list[Finding] = []
    for finding in examine():
        findings.append(finding)
        if not as_json:
            text = Text.assemble((f"{finding.state:7}", colours[finding.state]), finding.name)
            text.append(f"{'':{max(15 - len(finding.name), 1)}}{finding.said}")
            out.print(text.append(f" → {finding.mend}" if finding.mend else ""))
    bad = [finding.name for finding in findings if finding.state == "bad"]
    if as_json:
        print(json.dumps({"good": not bad, "findings": [vars(one) for one in findings]}, indent=2))
    if bad:
        raise Incomplete(f"not in order: {', '.join(bad)}; the lines above say what to do")


@app.command(epilog=MODELS_EXAMPLES)
def models(
    files: Annotated[
        list[Path] | None, typer.Argument(metavar="[MODEL]...", help="Describe these, too.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """List the models that are installed: objectives, stains, licence and checksum of each."""
    from refocus.acquisition.command.models import list_models

    found = list(list_models(files or ()))
    if as_json:
        print(json.dumps(found, indent=2))
        return
    for model in found:
        near, far = model["distance_um"]
        rows = {
            "objectives": model["objectives"],
            "distances": f"{near:g} to {far:g} µm from focus",
            "stains": "; ".join(model["stains"]) or "its card does not say",
            "trained on": model["trained_on"],
            "verdicts": "yes" if model["judges"] else "none: it was not calibrated",
            "licence": model["licence"],
            "sha256": model["sha256"],
            "file": model["file"],
        }
        named = f" (taken {model['taken']})" if model["taken"] else ""
        out.print(Text(f"{model['name']} {model['version']}{named}", "bold"))
        for name, value in rows.items():
            out.print(Text.assemble((f"  {name:12}", "dim"), value))


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

    with (
        ending_with(lambda: "the run that was watched goes on"),
        subscribe(
            endpoint, timeout, runs=runs or None, keys=keys, shared_memory=shared_memory
        ) as subscription,
    ):
        if err.is_terminal:
            err.print(f"listening on {endpoint}", style="dim")
        announced = ""
        for message in subscription.messages():
            line = describe_json(message) if as_json else describe(message)
            if line and line != announced:  # runs are announced again and again
                print(line, flush=True)
            announced = line if line.startswith("run") else announced


@app.command(epilog=PROCESS_EXAMPLES)
@options_of(
    RefocusOptions,
    *("engine", "insecure", "channels", "region", "refocus_z"),
    *("on_distrust", "optics", "light_path"),
)
def process(  # noqa: PLR0917
    given: dict[str, Any],
    source: Annotated[
        Path, typer.Argument(metavar="IN", help="OME-Zarr, TIFF, slide, or a folder of images.")
    ],
    target: Annotated[Path, typer.Argument(metavar="OUT", help="What to make; it must be new.")],
    workers: Annotated[
        int,
        typer.Option(
            metavar="N", min=1, help="Work with N processes, each with one thread; else with one."
        ),
    ] = 1,
    scheduler: Annotated[
        str,
        typer.Option(
            metavar="ADDRESS",
            help="Work on the Dask cluster there, as tcp://host:8786; its workers must see the "
            "same files.",
        ),
    ] = "",
    keep_going: Annotated[
        bool,
        typer.Option(
            "--keep-going",
            metavar="",
            help="Leave out a plane or a file that cannot be refocused, and end with status 1.",
        ),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Refocus data that already exist: same format, axes, metadata and names.

    A run that was ended goes on where it was when the same command is given again.
    """
    from refocus.engine import open_engine
    from refocus.engine.open import NAMES
    from refocus.recorded.process import process as process_data
    from refocus.recorded.process import stated_by
    from refocus.recorded.refocusing import Options
    from refocus.recorded.selection import Selection
    from refocus.recorded.staff import crew_of

    options = check_options(RefocusOptions, given)
    selection = Selection(options.channels, options.region, options.refocus_z)
    how = Options(options.on_distrust, options.optics, selection, options.insecure)
    named = options.engine not in NAMES  # a model, which the light path does not choose
    stated = UNKNOWN if named else stated_by(source, selection.chosen)
    paths = options.optics.of_all(stated)
    with (
        ending_with(lambda: "what is done is kept: the same command goes on"),
        closing(
            open_engine(options.engine, light_paths=paths, insecure=options.insecure)
        ) as opened,
    ):
        begun = time.monotonic()
        crew = crew_of(source, target, options.engine, opened.info, how, workers, scheduler)
        with progress_bar(err) as bar:
            task = bar.add_task("refocusing", total=None, figures="")

            def show(done: "Processed") -> None:
                seconds = max(time.monotonic() - begun, 1e-3)
                failed = f"  {done.failed} failed" if done.failed else ""
                figures = f"{done.refocused} planes, {done.regions / seconds:.1f} regions/s{failed}"
                bar.update(task, completed=done.regions, total=done.of_regions, figures=figures)

            done = process_data(
                source, target, opened, show, how, keep_going, crew, options.light_path
            )
    _print_processed(done, opened.info, target, time.monotonic() - begun, as_json)
    if done.failed:
        raise Incomplete(f"{target}: {done.failed} planes are left out; the lines above say why")


def _print_processed(
    done: "Processed", engine: "EngineInfo", target: Path, seconds: float, as_json: bool
) -> None:
    if as_json:
        facts = {
            "refocused": done.refocused,
            "failed": done.failed,
            "regions": done.regions,
            "as_captured": dict(done.as_captured),
            "verdicts": dict(done.verdicts),
            "seconds": round(seconds, 3),
        }
        print(json.dumps({**facts, "engine": engine.describe(), "output": str(target)}))
        return
    by = " ".join([engine.name, *([engine.card.name] if engine.card else ())])
    out.print(f"{how_many(done.refocused, 'plane')} refocused in {seconds:.1f} s by {by}")
    out.print(", ".join(f"{count} {verdict}" for verdict, count in sorted(done.verdicts.items())))
    for why, count in done.as_captured.items():
        out.print(f"{how_many(count, 'plane')} left as captured: {why}")
    out.print(wrote(target))


@app.command(epilog=FINISH_EXAMPLES)
@options_of(RefocusOptions, "engine", "insecure")
def finish(
    given: dict[str, Any],
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="What --save of the run named.")],
    as_json: JsonOption = False,
) -> None:
    """Refocus what a run that was saved still owes, after a kill."""
    from refocus.acquisition.command.finish import Finished, SavedRun, count_raw
    from refocus.acquisition.command.finish import finish as finish_run
    from refocus.engine import open_engine
    from refocus.engine.open import NAMES

    options = check_options(RefocusOptions, given)
    saved = SavedRun(folder)
    model = saved.model if options.engine in NAMES else None
    opening = closing(open_engine(options.engine, model, insecure=options.insecure))
    with opening as opened, progress_bar(err) as bar:
        task = bar.add_task("refocusing", total=count_raw(saved), figures="")

        def show(done: Finished) -> None:
            bar.update(task, completed=done.raw, figures=f"{done.refocused} refocused")

        done = finish_run(saved, opened, show, insecure=options.insecure)
    if as_json:
        facts = {**vars(done), "partners": done.partners, "engine": opened.info.describe()}
        print(json.dumps(facts))
    else:
        added = done.refocused + done.handed_on
        out.print(f"{added} frames added" if added else "nothing was owed")
        wanted = done.raw - done.left_out
        out.print(f"{done.partners} of {wanted} raw frames have their partner")
        out.print(wrote(saved.refocused))
    if done.failed:
        raise Incomplete(
            f"{saved.refocused}: {done.failed} frames are still missing; the lines above say why"
        )


def main() -> None:
    """Run the command, and turn what goes wrong into one line and an exit status."""
    sys.exit(_main())


def _main() -> int:
    os.environ.setdefault("PYMM_LOG_LEVEL", "CRITICAL")  # what it warns of is told in our words
    log_where_possible()
    log_to(err, "refocus-live")
    logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # a broken file has a line of ours
    end_on_signals()
    allow_open_files()
    kept = "what was captured is kept"
    return run_command(
        app, f"interrupted; {kept}", endings={Stopped: (f"terminated; {kept}", TERMINATED)}
    )
