"""The command ``refocus-train``: fetching data, training, and judging what came out."""

import json
import logging
import os
import sys
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from refocus.configs import Optics, RefocusError
from refocus.configs.command import (
    JsonOption,
    check_options,
    command_app,
    examples,
    make_console,
    options_of,
    run_command,
    wrote,
)
from refocus.configs.light_path import STATED
from refocus.configs.live_config import RefocusOptions
from refocus.configs.terminal import ending_with, log_to, progress_bar
from refocus.training.evaluate_command import EVALUATE_EXAMPLES, evaluate
from refocus.training.light_path_command import LIGHT_PATHS_EXAMPLES, light_paths

if TYPE_CHECKING:
    from rich.progress import TaskID

app = command_app(
    "refocus-train",
    "Train networks that refocus, on measured and simulated pairs, and judge them.",
    no_args_is_help=True,
)
out, err = make_console(), make_console(stderr=True)

FIT_EXAMPLES = """
[bold]Examples[/bold]

refocus-train fit --config simulated-nuclei-compact --max-steps 50

refocus-train fit --config mine.yaml --output runs/mine --resume
"""
SHOW_EXAMPLES = examples("refocus-train show", "refocus-train show own-stack > mine.yaml")
MEASURE_EXAMPLES = """
[bold]Example[/bold]

refocus-train measure --frames out_of_focus/ --reference in_focus/ --near-um 8 --na 0.5
"""
CALIBRATE_EXAMPLES = """
[bold]Examples[/bold]

refocus-train calibrate mine.onnx --specimens sharp_images/ --measured runs/mine/config.json
"""
FETCH_EXAMPLES = """
[bold]Example[/bold]

refocus-train fetch bbbc006 --z 1,5,10,16,32 --output data/bbbc006
"""


app.command(name="light-paths", epilog=LIGHT_PATHS_EXAMPLES)(light_paths)
app.command(epilog=EVALUATE_EXAMPLES)(options_of(RefocusOptions, "optics")(evaluate))


@app.command(epilog=FIT_EXAMPLES)
def fit(  # noqa: PLR0917
    config: Annotated[
        str, typer.Option(metavar="FILE", help="YAML file, or the name of a preset.")
    ],
    output: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder for the model; by default runs/NAME."),
    ] = None,
    max_steps: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Instead of the config's steps.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with a run that was stopped.")
    ] = False,
    seed: Annotated[
        int | None,
        typer.Option(metavar="N", min=0, max=2**32 - 1, help="Instead of the config's seed."),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(metavar="N", min=0, help="Instead of the config's workers.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Train a network."""
    from refocus.configs.presets import load_train_config

    settings = load_train_config(config)
    given = {"steps": max_steps, "seed": seed, "workers": workers}
    settings = settings.model_copy(update={k: v for k, v in given.items() if v is not None})
    from refocus.training.fit import fit as run_fit

    _quieten()  # again: Lightning raises its voice when it is imported
    folder = output or Path("runs") / settings.name

    def way() -> str:
        kept = (folder / "run" / "run.safetensors").is_file()
        return "add --resume to go on from the last checkpoint" if kept else "nothing was kept yet"

    with ending_with(way):
        model = run_fit(settings, folder, resume=resume, quiet=not err.is_terminal)
    if as_json:
        print(json.dumps({"output": str(model)}))
    else:
        out.print(wrote(model))


@app.command(epilog=SHOW_EXAMPLES)
def show(
    name: Annotated[str, typer.Argument(help="A preset; without one, all are named.")] = "",
) -> None:
    """Print a preset, to be changed into a config of your own.

    Where it says 'based_on', what it does not give is as in the run named there.
    So your own may say 'based_on: any-objective' and give what differs.
    """
    from refocus.configs.presets import find_config, preset_files

    print(find_config(name).read_text(encoding="utf-8") if name else "\n".join(preset_files()))


@app.command(epilog=CALIBRATE_EXAMPLES)
def calibrate(  # noqa: PLR0917
    model: Annotated[Path, typer.Argument(help="An .onnx model of 'refocus-export onnx'.")],
    output: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write here, not into the model itself.")
    ] = None,
    specimens: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Images in focus; the sharpest three tenths are specimens, too."
        ),
    ] = None,
    measured: Annotated[
        str | None,
        typer.Option(
            metavar="CONFIG",
            help="Calibrate on the measured pairs of this run, too, but for what it held out: "
            "best its config.json, which notes that.",
        ),
    ] = None,
    frames: Annotated[
        int,
        typer.Option(metavar="N", min=60, help="Frames to simulate, 0.4 MB each."),
    ] = 4000,
    seed: Annotated[int, typer.Option(metavar="N", min=0, help="Draws the frames.")] = 0,
    as_json: JsonOption = False,
) -> None:
    """Find out when a model can be trusted, and write that into its file."""
    from refocus.configs.training import SpecimensConfig
    from refocus.engine.model_file import read_model
    from refocus.training.judging.calibrate import calibrate as run_calibrate
    from refocus.training.judging.hard_sets import calibration_frames
    from refocus.training.judging.measured_windows import measured_frames
    from refocus.training.pairs.data import training_fields
    from refocus.training.pairs.pool import load_specimens
    from refocus.training.run_folder import load_run

    _, card = read_model(model)
    target = output or model
    if target.suffix.lower() != ".onnx" or target.is_dir():
        raise RefocusError(f"{target}: a model's file name ends in .onnx; change --output")
    target.parent.mkdir(parents=True, exist_ok=True)
    TemporaryFile(dir=target.parent).close()  # told before the work, not after it
    # the sharpest alone: making more of a soft one is no harm, and would count as some
    pictures = load_specimens(SpecimensConfig(folder=specimens, sharpest=0.3)) if specimens else []
    named = f" and {len(pictures)} sharp images of {specimens.name}" if specimens else ""
    pairs = training_fields(load_run(measured, model)) if measured else []
    if pairs:
        named += f"; windows of {len(pairs)} measured pairs of {measured}"
    with progress_bar(err, "{task.percentage:3.0f} %") as bar:
        task = bar.add_task("drawing frames", total=frames, figures="")
        drawn = []
        for frame in calibration_frames(card, frames, seed, pictures):
            drawn.append(frame)
            bar.update(task, advance=1)
        drawn += measured_frames(pairs, seed)
        told = f"{frames} simulated frames, seed {seed}, of synthetic specimens{named}"
        bar.update(task, description="calibrating", total=None)
        limits = run_calibrate(model, target, drawn, told, seed).trust
    assert limits is not None
    if as_json:
        print(json.dumps({"written": str(target), **limits.model_dump()}, indent=2))
        return
    out.print(
        f"in focus below {limits.in_focus_um:g} µm; trusted from a score of "
        f"{limits.frame_score:.3f} (tiles {limits.tile_score:.3f}); expected error × "
        f"{limits.error_factor:.2f}"
    )
    out.print(wrote(target))


@app.command(epilog=MEASURE_EXAMPLES)
@options_of(RefocusOptions, "optics")
def measure(
    given: dict[str, Any],
    frames: Annotated[Path, typer.Option(metavar="DIR", help="Frames out of focus.")],
    reference: Annotated[
        Path, typer.Option(metavar="DIR", help="Their in-focus partners, same names.")
    ],
    near_um: Annotated[float, typer.Option(metavar="UM", help="About how far out of focus.")],
    as_json: JsonOption = False,
) -> None:
    """Measure distance and spherical aberration of pairs; optics not told are those of BBBC006."""
    from refocus.optics.images import list_images
    from refocus.optics.transfer import light_path_of
    from refocus.training.pairs.measure import measure_optics
    from refocus.training.pairs.measured import read_pair

    usual = light_path_of(Optics())
    known = check_options(RefocusOptions, given).optics.of(stated=usual)
    optics = Optics(**{name: getattr(known, name) for name in STATED})
    title = f"NA {optics.na:g}, {optics.pixel_size_um:g} µm per pixel"
    table = Table(title=title, title_justify="left")
    for title in ("frame", "distance, µm", "spherical, waves", "residual", "without aberration"):
        table.add_column(title, justify="left" if title == "frame" else "right")
    files = list_images(frames)
    rows = []
    with progress_bar(err, "{task.percentage:3.0f} %") as bar:
        task = bar.add_task("measuring", total=len(files), figures="")
        for file in files:
            frame, sharp = read_pair(file, reference / file.name)
            found = measure_optics(sharp, frame, optics, near_um)
            rows.append({"frame": file.name, **found._asdict()})
            table.add_row(
                file.name, *(f"{n:.{d}f}" for n, d in zip(found, (1, 2, 3, 3), strict=True))
            )
            bar.update(task, advance=1)
    if as_json:
        print(json.dumps(rows, indent=2))
    else:
        out.print(table)


@app.command(epilog=FETCH_EXAMPLES)
def fetch(
    dataset: Annotated[str, typer.Argument(help="[b]bbbc006[/b]")],
    z: Annotated[
        str, typer.Option(metavar="LIST", help="Planes, 0 to 33; 16 is in focus.")
    ] = "1,5,10,16,32",
    output: Annotated[Path, typer.Option(metavar="DIR", help="Where to.")] = Path("data/bbbc006"),
    site: Annotated[str, typer.Option(metavar="URL", help="Another copy of the archives.")] = "",
) -> None:
    """Download a public data set; run it again to go on after a break."""
    if dataset.lower() != "bbbc006":
        raise RefocusError(f"{dataset}: is not known; allowed: bbbc006")
    from refocus.training.pairs import bbbc006

    try:
        numbers = [int(number) for number in z.split(",")]
    except ValueError as error:
        raise RefocusError(f"--z {z}: give plane numbers such as 1,5,10,16,32") from error
    with progress_bar(err, "{task.percentage:3.0f} %") as bar:
        tasks: dict[str, TaskID] = {}

        def told(archive: str, have: int, total: int) -> None:
            if archive not in tasks:
                tasks[archive] = bar.add_task(archive, total=total or None, figures="")
            bar.update(tasks[archive], completed=have)

        folders = bbbc006.fetch(output, numbers, site or bbbc006.SITE, told)
    out.print(f"{len(folders)} planes in {output}, {len(bbbc006.index(output))} images")


def main() -> None:
    """Run the command, and turn what goes wrong into one line and an exit status."""
    log_to(err, "refocus-train")
    sys.exit(_main())


def _main() -> int:
    _quieten()
    return run_command(app, "interrupted; run it again")


def _quieten() -> None:
    """Leave the terminal to our own words: libraries tell of themselves."""
    for name in ("lightning.pytorch", "lightning.fabric", "lightning", "pooch", "tifffile"):
        logging.getLogger(name).setLevel(logging.ERROR)
    # threads that wait by spinning fight each other on a busy machine
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


if __name__ == "__main__":
    main()
