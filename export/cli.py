"""The command ``refocus-export``: a checkpoint becomes ONNX, then an engine; each is verified."""

import json
import math
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from refocus.configs import RefocusError
from refocus.configs.command import (
    OVER_BOUND,
    JsonOption,
    command_app,
    make_console,
    run_command,
)
from refocus.configs.files import replacing
from refocus.configs.terminal import log_to, progress_bar

if TYPE_CHECKING:
    from refocus.engine.parity import Difference

app = command_app(
    "refocus-export",
    "Make ONNX models and TensorRT engines, and verify each against the one before.",
    no_args_is_help=True,
)
PLANS = (".plan", ".engine")
out, err = make_console(), make_console(stderr=True)

ONNX_EXAMPLES = """
[bold]Examples[/bold]

refocus-export onnx runs/compact/model.safetensors

refocus-export onnx runs/resnet34/model.safetensors --precision fp16 --output resnet34.fp16.onnx
"""
TENSORRT_EXAMPLES = """
[bold]Examples[/bold]

refocus-export tensorrt model.onnx --frame 2048x2048

refocus-export tensorrt model.onnx --frame 512x512 --max-frame 2048x2048 --output model.plan

refocus-export tensorrt model.onnx --runtime tensorrt-rtx --target 8.9 --output rtx4090.plan
"""
TRITON_EXAMPLES = """
[bold]Examples[/bold]

refocus-export triton model.onnx repository/

refocus-export triton model.onnx repository/ --backend python --device GPU

refocus-export triton model.onnx repository/ --backend tensorrt --plan model.plan
"""
BIOIMAGEIO_EXAMPLES = """
[bold]Examples[/bold]

refocus-export bioimageio model.onnx model.zip --author "A. Name"
"""
CARD_EXAMPLES = """
[bold]Examples[/bold]

refocus-export card model.onnx --config configs/train/own-stack.yaml
"""
VERIFY_EXAMPLES = """
[bold]Examples[/bold]

refocus-export verify model.safetensors model.onnx

refocus-export verify model.onnx model.fp16.onnx --json
"""


class Precision(StrEnum):
    """Arithmetic of the exported network."""

    FP32 = "fp32"
    FP16 = "fp16"


class Backend(StrEnum):
    """What runs the model in Triton."""

    ONNX = "onnx"
    TENSORRT = "tensorrt"
    PYTHON = "python"


class Device(StrEnum):
    """Of OpenVINO."""

    CPU = "CPU"
    GPU = "GPU"


class RuntimeName(StrEnum):
    """Which TensorRT."""

    AUTO = "auto"
    TENSORRT = "tensorrt"
    TENSORRT_RTX = "tensorrt-rtx"


def _frame(text: str, option: str) -> tuple[int, int]:
    found = re.fullmatch(r"(\d{2,5})[x×](\d{2,5})", text.strip().lower())
    if not found or min(map(int, found.groups())) < 32:
        raise RefocusError(f"{option} {text}: give HEIGHTxWIDTH, 32 or more each, as 2048x2048")
    return int(found[1]), int(found[2])


@app.command("onnx", epilog=ONNX_EXAMPLES)
def to_onnx(
    checkpoint: Annotated[Path, typer.Argument(help="A .safetensors made by refocus-train.")],
    output: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Default: beside the checkpoint.")
    ] = None,
    precision: Annotated[
        Precision, typer.Option(help="fp16 keeps pixels and the final sum in fp32.")
    ] = Precision.FP32,
    overwrite: Annotated[
        bool,
        typer.Option("--overwrite", help="Also a model that is calibrated, or of another name."),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Export a checkpoint to one ONNX file, which carries its own card."""
    half = precision is Precision.FP16
    path = output or checkpoint.with_suffix(".fp16.onnx" if half else ".onnx")
    if path.suffix.lower() != ".onnx":
        raise RefocusError(f"{path}: a model's file name ends in .onnx; change --output")
    with _spinner("exporting and verifying", quiet=as_json):
        from refocus.engine.model_file import opset, read_model
        from refocus.export.to_onnx import onnx_from_checkpoint

        card = onnx_from_checkpoint(checkpoint, path, half, overwrite)
        model, _ = read_model(path)
    facts = {
        "model": f"{card.name} {card.version}",
        "architecture": card.architecture,
        "precision": precision.value,
        "opset": opset(model),
        "sha256": card.sha256,
        "size_bytes": path.stat().st_size,
        "output": str(path),
    }
    _print_facts(facts, as_json)


@app.command("tensorrt", epilog=TENSORRT_EXAMPLES)
def to_tensorrt(  # noqa: PLR0917
    model: Annotated[Path, typer.Argument(metavar="MODEL.onnx", help="A model with a card.")],
    output: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Default: the cache of engines.")
    ] = None,
    runtime: Annotated[
        RuntimeName, typer.Option(help="Default: the first that is installed.")
    ] = RuntimeName.AUTO,
    frame: Annotated[str, typer.Option(metavar="HxW", help="The camera's frame.")] = "512x512",
    max_frame: Annotated[
        str | None,
        typer.Option(metavar="HxW", help="Serve any size up to this one."),
    ] = None,
    batch: Annotated[int, typer.Option(min=1, max=64, help="Frames at a time.")] = 1,
    target: Annotated[
        str | None,
        typer.Option(metavar="CC", help="Compute capability to build for, as 8.9."),
    ] = None,
    workspace: Annotated[
        float, typer.Option(min=0.1, metavar="GIB", help="Memory the builder may use.")
    ] = 2.0,
    layers: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write what each layer became, as JSON (needs the GPU)."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Build an FP16 engine; the FP16 graph is verified on the CPU first."""
    if output is not None and output.suffix.lower() not in PLANS:
        raise RefocusError(
            f"{output}: an engine's file name ends in .plan or .engine; change --output"
        )
    if layers is not None and layers.suffix.lower() != ".json":
        raise RefocusError(f"{layers}: a file of layers ends in .json; change --layers")
    from refocus.export.to_tensorrt import tensorrt_from_onnx

    with _spinner("verifying and building", quiet=as_json) as show:
        built = tensorrt_from_onnx(
            model,
            output,
            runtime=runtime.value,
            frame=_frame(frame, "--frame"),
            max_frame=_frame(max_frame, "--max-frame") if max_frame else None,
            batch=batch,
            target=target,
            workspace_gib=workspace,
            progress=show,
        )
    if layers is not None:
        from refocus.engine.tensorrt.build import layers as describe_layers
        from refocus.engine.tensorrt.build import load_runtime

        described = describe_layers(built.path.read_bytes(), load_runtime(runtime.value))
        with replacing(layers) as part:
            part.write_text(json.dumps(described, indent=2), encoding="utf-8")
    facts = {
        **built.description,
        "size_bytes": built.size,
        "from_cache": built.from_cache,
        "output": str(built.path),
    }
    _print_facts(facts, as_json)


@app.command("triton", epilog=TRITON_EXAMPLES)
def to_triton(  # noqa: PLR0917
    model: Annotated[Path, typer.Argument(metavar="MODEL.onnx", help="A model with a card.")],
    repository: Annotated[
        Path, typer.Argument(metavar="REPOSITORY", help="Folder of models that Triton serves.")
    ],
    backend: Annotated[
        Backend, typer.Option(help="python: OpenVINO, on the server's CPU or Intel GPU.")
    ] = Backend.ONNX,
    name: Annotated[
        str | None, typer.Option(metavar="NAME", help="Default: that of the file.")
    ] = None,
    plan: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Of tensorrt: made of this model for the server's GPU."),
    ] = None,
    device: Annotated[Device, typer.Option(help="Of python.")] = Device.CPU,
    threads: Annotated[
        int, typer.Option(min=0, metavar="N", help="Of python on a CPU; 0: all.")
    ] = 0,
    as_json: JsonOption = False,
) -> None:
    """Write a model into a model repository of NVIDIA Triton, with its configuration."""
    from refocus.export.to_triton import triton_from_onnx

    served = triton_from_onnx(
        model,
        repository,
        backend=backend.value,
        name=name,
        plan=plan,
        device=device.value,
        threads=threads,
    )
    facts = {
        "model": f"{served.card.name} {served.card.version}",
        "sha256": served.card.sha256,
        "backend": backend.value,
        "served_as": served.folder.name,
        "served_version": served.version,
        "output": str(served.folder),
    }
    _print_facts(facts, as_json)


@app.command("bioimageio", epilog=BIOIMAGEIO_EXAMPLES)
def to_bioimageio(
    model: Annotated[Path, typer.Argument(metavar="MODEL.onnx", help="A model with a card.")],
    output: Annotated[Path, typer.Argument(metavar="OUT.zip", help="The package to write.")],
    author: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Who made the model. Repeat it for each."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Write a BioImage.IO package, once bioimageio.core has run it and found the same."""
    if output.suffix.lower() != ".zip":
        raise RefocusError(f"{output}: a package's file name ends in .zip; change it")
    with _spinner("writing and verifying", quiet=as_json):
        from refocus.export.to_bioimageio import bioimageio_from_onnx

        authors = author or ["the ReFocus live contributors"]
        card = bioimageio_from_onnx(model, output, authors)
    facts = {
        "model": f"{card.name} {card.version}",
        "sha256": card.sha256,
        "size_bytes": output.stat().st_size,
        "output": str(output),
    }
    _print_facts(facts, as_json)


@app.command("card", epilog=CARD_EXAMPLES)
def tell_card(
    model: Annotated[Path, typer.Argument(metavar="MODEL.onnx", help="A model with a card.")],
    config: Annotated[
        str, typer.Option(metavar="FILE", help="What it was trained with: a file, or a preset.")
    ],
    as_json: JsonOption = False,
) -> None:
    """Write stains, data and licence of a configuration into a model's card; weights stay."""
    from refocus.configs.presets import load_train_config
    from refocus.export.card import write_card

    card = write_card(model, load_train_config(config))
    facts = {
        "model": f"{card.name} {card.version}",
        "stains": "; ".join(card.stains) or "none said",
        "trained_on": card.training_data,
        "licence": card.licence,
        "sha256": card.sha256,
        "output": str(model),
    }
    _print_facts(facts, as_json)


@app.command("verify", epilog=VERIFY_EXAMPLES)
def verify_forms(
    reference: Annotated[Path, typer.Argument(metavar="A", help="The form that is trusted.")],
    candidate: Annotated[Path, typer.Argument(metavar="B", help="The form to compare with it.")],
    as_json: JsonOption = False,
) -> None:
    """Compare two forms of a model (.safetensors, .onnx, .plan) on frames that break exports.

    Exit status 1 where they differ by more than the bound.
    """
    with _spinner("comparing", quiet=as_json):
        from refocus.engine.parity import LARGEST, MEAN, passed
        from refocus.export.verify import verify

        differences = verify(reference, candidate)
    fine = passed(differences)
    if as_json:
        frames = [
            {k: v if isinstance(v, str) or math.isfinite(v) else None for k, v in vars(d).items()}
            for d in differences
        ]
        bound = {"largest": LARGEST, "mean": MEAN}
        report = {"a": str(reference), "b": str(candidate), "passed": fine, "bound": bound}
        print(json.dumps({**report, "frames": frames}, indent=2))
    else:
        out.print(differences_table(differences))
        bound_text = f"bound: largest {LARGEST:.0%}, mean {MEAN:.2%} of the range"
        said = ("passed", "green") if fine else ("over", "red")
        out.print(Text.assemble(said, f"  {bound_text}"))
    if not fine:
        raise typer.Exit(OVER_BOUND)


def differences_table(differences: "list[Difference]") -> Table:
    """Lay the differences out, one frame a line."""
    table = Table(box=None, pad_edge=False)
    table.add_column("frame")
    for heading in ("largest", "mean", "PSNR"):
        table.add_column(heading, justify="right")
    table.add_column("")
    for d in differences:
        psnr = f"{d.psnr_db:.1f} dB" if math.isfinite(d.psnr_db) else "equal"
        if not math.isfinite(d.largest):
            psnr = ""
        problem = Text(d.problem, "red")
        table.add_row(d.frame, f"{d.largest:.4%}", f"{d.mean:.5%}", psnr, problem)
    return table


def main() -> None:
    """Run the command; bad input is one line and exit status 2, over the bound is 1."""
    sys.exit(_main())


def _main() -> int:
    log_to(err, "refocus-export")
    return run_command(app, "interrupted; nothing half-written is left")


def _print_facts(facts: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print(json.dumps(facts, indent=2))
        return
    for name, value in facts.items():
        out.print(Text.assemble((f"{name.replace('_', ' '):<16}", "dim"), f" {value}"))


@contextmanager
def _spinner(what: str, quiet: bool) -> Iterator[Any]:
    with progress_bar(Console(quiet=True) if quiet else err, "") as bar:
        task = bar.add_task(what, total=None, figures="")

        def show(phase: str, done: int, steps: int) -> None:
            bar.update(task, description=phase[:40], completed=done, total=steps or None)

        yield show
