"""Checkpoint to ONNX: one file, dynamic batch, height and width, card in the metadata."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import nn

from refocus.configs import ModelCard, RefocusError
from refocus.engine.half_precision import half_precision
from refocus.engine.model_file import embed_card, embed_estimator, read_model, write_model
from refocus.export.verify import require_parity
from refocus.training.network.checkpoint import load_model, read_estimator_of

OUTPUTS = ("refocused", "focus", "error", "features")


def onnx_from_checkpoint(
    checkpoint: Path, output: Path, half: bool = False, overwrite: bool = False
) -> ModelCard:
    """Export a checkpoint, and compare the two before the file appears.

    Parameters
    ----------
    checkpoint
        ``.safetensors`` with a card.
    output
        The ``.onnx`` file to write.
    half
        Make it FP16; pixels, and the sum with the correction, stay FP32.
    overwrite
        Whether a model that is calibrated, or of another name, may give way.

    Returns
    -------
    ModelCard
        As embedded, with the checksum of the weights.

    Raises
    ------
    RefocusError
        The checkpoint cannot be read, a weight is no number or does not fit FP16, the file cannot
        be written or would take the place of such a model, or ONNX does not compute what PyTorch
        does.
    """
    network, card = load_model(checkpoint)
    if not overwrite:
        _check_place(output, card)
    for name, weights in network.state_dict().items():
        if not weights.isfinite().all():
            raise RefocusError(f"{checkpoint}: {name} holds NaN or infinity; train it again")
    model = convert(network)
    worst = largest_difference(network, model)
    if not worst < 1e-3:
        raise RefocusError(
            f"{checkpoint}: ONNX differs from PyTorch by {worst:.2%} of the range; not written"
        )
    if half:
        model = half_precision(model)
    estimator = read_estimator_of(checkpoint)
    if estimator is not None:
        embed_estimator(model, estimator.model_dump_json())
    card = embed_card(model, card)
    onnx.checker.check_model(model, full_check=True)
    save_verified(model, output, checkpoint)
    return card


def _check_place(output: Path, card: ModelCard) -> None:
    """Refuse to write over what took long to make, or is something else."""
    try:
        there = read_model(output)[1]
    except RefocusError:  # there is none, or none that is of use
        return
    if there.trust is not None or there.name != card.name:
        what = f"is {there.name}" if there.name != card.name else "is calibrated"
        raise RefocusError(f"{output}: {what}; add --overwrite to lose it, or change --output")


def save_verified(model: onnx.ModelProto, output: Path, reference: Path) -> None:
    """Write a model once it agrees with what it was made from; no half-written file is left.

    Raises
    ------
    RefocusError
        They do not agree, or the file cannot be written.
    """
    write_model(model, output, lambda part: require_parity(reference, part))


def convert(network: nn.Module) -> onnx.ModelProto:
    """Trace a network into an ONNX graph; frames are ``(N, C, H, W)``, multiples of its stride."""
    stride = int(network.stride)  # type: ignore[arg-type]
    batch = torch.export.Dim("batch", min=1, max=256)
    height = torch.export.Dim("height", min=1, max=16384 // stride)
    width = torch.export.Dim("width", min=1, max=16384 // stride)
    shapes = {0: batch, 2: stride * height, 3: stride * width}
    example = torch.zeros(2, int(network.inputs), stride * 4, stride * 6)  # type: ignore[arg-type]
    with warnings.catch_warnings(), _quiet():
        warnings.simplefilter("ignore")  # the exporter warns of its own internals
        program = torch.onnx.export(
            network.eval(),
            (example,),
            input_names=["frames"],
            output_names=list(OUTPUTS),
            dynamic_shapes=(shapes,),
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    assert program is not None
    return _anonymous(program.model_proto)


def _anonymous(model: onnx.ModelProto) -> onnx.ModelProto:
    """Take out the exporter's notes on every node: they hold the paths of whoever exported."""
    graph = model.graph
    values = (*graph.input, *graph.output, *graph.value_info, *graph.initializer)
    for part in (model, graph, *graph.node, *values):
        del part.metadata_props[:]
        part.ClearField("doc_string")
    return model


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the exporter's lines about torchvision, which is not needed."""
    exporter = logging.getLogger("torch.onnx")
    before, exporter.disabled = exporter.level, False
    exporter.setLevel(logging.ERROR)
    try:
        yield
    finally:
        exporter.setLevel(before)


def largest_difference(network: nn.Module, model: onnx.ModelProto) -> float:
    """Run both on real-valued frames of several sizes; give the worst difference over the range."""
    import openvino as ov

    compiled = ov.Core().compile_model(
        ov.Core().read_model(model.SerializeToString()),
        "CPU",
        {"INFERENCE_PRECISION_HINT": "f32"},
    )
    stride = int(network.stride)  # type: ignore[arg-type]
    worst = 0.0
    for number, (n, height, width) in enumerate(((1, 4, 4), (2, 8, 5), (1, 3, 11))):
        frames = _frames(number, n, int(network.inputs), height * stride, width * stride)  # type: ignore[arg-type]
        with torch.inference_mode():
            wanted = network(torch.from_numpy(frames)).pixels.numpy()
        given = compiled([frames])["refocused"]
        difference = float(np.abs(given - wanted).max() / max(float(np.ptp(wanted)), 1e-6))
        worst = max(worst, difference if np.isfinite(difference) else float("inf"))
    return worst


def _frames(seed: int, n: int, channels: int, height: int, width: int) -> NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    frames = rng.normal(0.2, 0.1, (n, channels, height, width)).astype(np.float32)
    frames[:, :, height // 4 : height // 2, width // 4 : width // 2] += 0.8
    return frames
