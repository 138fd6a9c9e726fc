"""The command ``refocus-train evaluate``: a model beside its rivals, or its verdicts."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from refocus.configs import ModelCard, RefocusError
from refocus.configs.command import JsonOption, check_options, make_console, wrote
from refocus.configs.live_config import RefocusOptions
from refocus.configs.terminal import progress_bar

if TYPE_CHECKING:
    from refocus.configs.training import TrainConfig
    from refocus.training.judging.samples import Sample

EVALUATE_EXAMPLES = """
[bold]Examples[/bold]

refocus-train evaluate runs/mine/model.safetensors --output report

refocus-train evaluate model.onnx --frames out_of_focus/ --reference in_focus/
"""
out, err = make_console(), make_console(stderr=True)


def evaluate(  # noqa: PLR0917
    given: dict[str, Any],
    model: Annotated[Path, typer.Argument(help="A .safetensors checkpoint or an .onnx model.")],
    frames: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Frames out of focus; without them, the z-stacks that its run held out, or else "
            "simulated nuclei. With --trust: frames that can only be left alone, such as phase "
            "contrast.",
        ),
    ] = None,
    reference: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Their in-focus partners, same names.")
    ] = None,
    folder_per_plane: Annotated[
        bool, typer.Option("--folder-per-plane", help="DIR holds a folder for each plane.")
    ] = False,
    output: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Write metrics.json, table.md and contact sheets here."),
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(
            metavar="CONFIG",
            help="Take only the wells, or the z-stacks, that this run held out: "
            "best its config.json, which notes them.",
        ),
    ] = None,
    distance_um: Annotated[
        float | None,
        typer.Option(metavar="UM", help="Distance from focus, for Richardson-Lucy, if known."),
    ] = None,
    vgg: Annotated[
        str, typer.Option(help="Weights of the feature distance: [b]random[/b] or [b]imagenet[/b].")
    ] = "random",
    trust: Annotated[
        bool,
        typer.Option("--trust", help="Judge its verdicts instead, over sets of hard frames."),
    ] = False,
    per_set: Annotated[
        int, typer.Option(metavar="N", min=1, help="Hard frames of each set, with --trust.")
    ] = 24,
    as_json: JsonOption = False,
) -> None:
    """Judge a model against doing nothing and against Richardson-Lucy, or judge its verdicts."""
    optics = check_options(RefocusOptions, given).optics
    optics.check_pixel_size(0.0)
    if trust:
        _evaluate_trust(model, frames, per_set, output, as_json=as_json)
        return
    if (frames is None) != (reference is None):
        raise RefocusError("--frames and --reference belong together; give both or neither")
    if vgg not in ("random", "imagenet"):
        raise RefocusError(f"--vgg: allowed are random and imagenet, got {vgg!r}")
    from refocus.training.judging import evaluate as judge
    from refocus.training.judging.candidate import open_candidate
    from refocus.training.judging.samples import folder_samples
    from refocus.training.run_folder import load_run

    judged = open_candidate(model, optics.of())
    run = load_run(split, model) if split else None
    if frames is not None and reference is not None:
        samples = folder_samples(frames, reference, folder_per_plane, run, distance_um)
        judged_on = f"{len(samples)} frames of {frames}" + (f", held out by {split}" if run else "")
    else:
        samples, judged_on = _without_frames(model, judged.card, run)
    with progress_bar(err, "{task.percentage:3.0f} %") as bar:
        task = bar.add_task("evaluating", total=len(samples), figures="")
        metrics = judge.evaluate(
            judged,
            samples,
            judged_on,
            vgg=vgg,
            sheets=output,
            told=lambda plane, done, _: bar.update(task, completed=done, description=plane),
        )
    if output is not None:
        output.mkdir(parents=True, exist_ok=True)
        judge.write_metrics(metrics, output)
    if as_json:
        print(json.dumps(metrics, indent=2))
        return
    _print_metrics(metrics, judged.card)
    if output is not None:
        out.print(wrote(output))


def _print_metrics(metrics: dict[str, Any], card: ModelCard) -> None:
    from refocus.training.judging import evaluate as judge

    table = Table(title=f"{card.name} {card.version}", title_justify="left")
    for title in ("plane", "channel", "frames", "method", *(t for _, t, _ in judge.COLUMNS)):
        left = title in ("channel", "method")
        table.add_column(title, justify="left" if left else "right", no_wrap=True)
    for cells in judge.table_rows(metrics):
        table.add_row(*cells, end_section=cells[3] == judge.PUBLISHED)
    Console(width=max(out.width, 150), highlight=False, markup=False, emoji=False).print(table)
    out.print(judge.summary(metrics))


def _without_frames(
    model: Path, card: ModelCard, run: "TrainConfig | None"
) -> tuple[list["Sample"], str]:
    """Take what the run of the model held out, if it trained on stacks; else simulate nuclei."""
    from refocus.configs.presets import load_train_config
    from refocus.training.judging.samples import simulated_samples, stack_samples

    beside = model.with_name("config.json")
    named = run is not None
    if run is None and model.suffix == ".safetensors" and beside.is_file():
        run = load_train_config(str(beside))
    if run is not None and run.stacks:
        samples = stack_samples(run)
        files = sorted({s.name.rpartition(", plane")[0] for s in samples})
        return samples, f"{len(samples)} planes of the stacks held out: {', '.join(files)}"
    if named:
        raise RefocusError("--split names a run without z-stacks; give --frames and --reference")
    samples = simulated_samples(card)
    return samples, f"{len(samples)} simulated frames of nuclei"


def _evaluate_trust(
    model: Path, phase: Path | None, per_set: int, output: Path | None, *, as_json: bool
) -> None:
    from refocus.engine.openvino import OpenVinoEngine
    from refocus.training.judging.hard_sets import judging_frames
    from refocus.training.judging.trust_report import (
        judge_all,
        markdown,
        trust_metrics,
        write_trust,
    )

    engine = OpenVinoEngine(model, precision="f32")
    card = engine.info.card
    if card is None or card.trust is None:
        raise RefocusError(f"{model}: is not calibrated; run 'refocus-train calibrate {model}'")
    with progress_bar(err, "{task.percentage:3.0f} %") as bar:
        task = bar.add_task("judging verdicts", total=None, figures="")
        hard = list(judging_frames(card, per_set, 0, phase))
        bar.update(task, total=len(hard))
        judged = judge_all(engine, hard, lambda done: bar.update(task, completed=done))
        metrics = trust_metrics(engine, judged)
    if output is not None:
        write_trust(metrics, judged, output)
    if as_json:
        print(json.dumps(metrics, indent=2))
        return
    out.print(markdown(metrics), end="")
    if output is not None:
        out.print(wrote(output))
