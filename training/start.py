"""Where a run starts: a checkpoint, or the weights that an exported model still holds."""

from pathlib import Path

import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from refocus.configs import RefocusError
from refocus.engine.model_file import read_model
from refocus.engine.shipped import shipped_models
from refocus.training.network.checkpoint import read_tensors
from refocus.training.network.unet import widened


def is_exported(weights: object) -> bool:
    """Whether weights are those of a model that ships, or of another ``.onnx`` file."""
    return str(weights) in shipped_models() or str(weights).endswith(".onnx")


def first_weights(weights: Path, network: nn.Module) -> dict[str, Tensor]:
    """Read the weights that a network starts from.

    Parameters
    ----------
    weights
        A ``.safetensors`` checkpoint, a ``.onnx`` model of ours, or the name of one that ships.
    network
        That is to have them.

    Raises
    ------
    RefocusError
        There is no such file, it is damaged, or holds another network.
    """
    if is_exported(weights):
        file = shipped_models().get(str(weights), weights)
        model, _ = read_model(file)
        return from_onnx(model, network, str(weights))
    if not weights.is_file():
        names = ", ".join(shipped_models())
        raise RefocusError(f"weights: {weights}: no such checkpoint, nor a model; models: {names}")
    return widened(read_tensors(weights)[0], network)


def from_onnx(model: onnx.ModelProto, network: nn.Module, where: str) -> dict[str, Tensor]:
    """Read a network's state back from the model that was exported from it.

    Exporting folds each batch norm into the convolution before it. It comes back as one that adds
    what is left of it, a bias, and computes the same while it is frozen.

    Raises
    ------
    RefocusError
        The model is of another network, or in half precision.
    """
    held = {t.name: torch.tensor(numpy_helper.to_array(t)) for t in model.graph.initializer}
    for name, norm in network.named_modules():
        bias = (
            held.get(f"{_before(name)}.weight_bias") if isinstance(norm, nn.BatchNorm2d) else None
        )
        if bias is not None:
            one, none = torch.ones_like(bias), torch.zeros_like(bias)
            held |= {f"{name}.weight": one, f"{name}.bias": bias}
            held |= {f"{name}.running_mean": none, f"{name}.running_var": one - norm.eps}
            held[f"{name}.num_batches_tracked"] = torch.tensor(0)
    wanted = network.state_dict()
    state = {name: held[name] for name in wanted if name in held}
    if [(v.shape, v.dtype) for v in state.values()] != [
        (v.shape, v.dtype) for v in wanted.values()
    ]:
        raise RefocusError(
            f"weights: {where}: is of another 'architecture' than this run, or in half precision; "
            "give one that fits, or a checkpoint"
        )
    return state


def _before(norm: str) -> str:
    """Name the convolution before a batch norm."""
    parent, _, number = norm.rpartition(".")
    return f"{parent}.{int(number) - 1}" if number.isdigit() else ""
