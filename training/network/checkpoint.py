"""Checkpoints without pickles: tensors in safetensors, the rest in JSON.

A *model* is the weights with a card; a *run* is all that resuming needs.
"""

import json
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import CheckpointIO
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from refocus.configs import ModelCard, RefocusError
from refocus.configs.files import replacing
from refocus.engine.light_path.estimate import EstimatorWeights
from refocus.training.network.unet import ARCHITECTURES

ESTIMATOR = "refocus-light-paths"


def save_model(
    path: Path, network: nn.Module, card: ModelCard, estimator: EstimatorWeights | None = None
) -> None:
    """Write a network's weights, card and estimator of light paths to one ``.safetensors`` file."""
    state = {
        name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()
    }
    metadata = {"refocus": card.model_dump_json()}
    if estimator is not None:
        metadata[ESTIMATOR] = estimator.model_dump_json()
    with replacing(path) as part:
        save_file(state, part, metadata=metadata)


def read_estimator_of(path: Path) -> EstimatorWeights | None:
    """Read the estimator of light paths that a model file of :func:`save_model` carries, if any."""
    with safe_open(path, framework="pt") as opened:
        stored = (opened.metadata() or {}).get(ESTIMATOR)
    return None if stored is None else EstimatorWeights.model_validate_json(stored)


def load_model(path: Path) -> tuple[nn.Module, ModelCard]:
    """Read a network and its card.

    Raises
    ------
    RefocusError
        The file is missing or damaged, is no checkpoint of ours, or holds other weights than its
        card says.
    """
    if not path.is_file():
        raise RefocusError(f"{path}: no such checkpoint")
    try:
        with safe_open(path, framework="pt") as opened:
            metadata = opened.metadata() or {}
        state = load_file(path)
    except (SafetensorError, OSError) as error:
        raise RefocusError(f"{path}: not a readable safetensors file ({error})") from error
    if "refocus" not in metadata:
        raise RefocusError(f"{path}: has no model card; was it written by 'refocus-train fit'?")
    card = ModelCard.model_validate_json(metadata["refocus"])
    network = build(card.architecture)
    load_weights(network, state, f"{path} (architecture {card.architecture})")
    return network.eval(), card


def build(architecture: str) -> nn.Module:
    """Make a network by its name.

    Raises
    ------
    RefocusError
        There is no such architecture.
    """
    if architecture not in ARCHITECTURES:
        known = ", ".join(ARCHITECTURES)
        raise RefocusError(f"architecture {architecture!r} is not known; allowed: {known}")
    return ARCHITECTURES[architecture]()


def load_weights(network: nn.Module, state: dict[str, torch.Tensor], where: str) -> None:
    """Load a state, and say in one line when it belongs to another network."""
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        reason = str(error).splitlines()[1].strip() if "\n" in str(error) else str(error)
        raise RefocusError(f"{where}: weights do not fit the network: {reason[:160]}") from error


class SafeCheckpointIO(CheckpointIO):
    """Lightning's run state as a folder: ``tensors.safetensors`` and ``state.json``."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None
    ) -> None:
        """Write the state; the old one is replaced only once the new one is whole."""
        tensors: dict[str, torch.Tensor] = {}
        state = _flatten(checkpoint, "", tensors)
        # one file holds both, so that a kill leaves the old state or the new one
        with replacing(Path(path) / "run.safetensors") as part:
            save_file(tensors, part, metadata={"state": json.dumps(state)})

    def load_checkpoint(
        self, path: Any, map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read the state back."""
        file = Path(path) / "run.safetensors"
        try:
            with safe_open(file, framework="pt") as opened:
                state = json.loads((opened.metadata() or {})["state"])
            tensors = load_file(file)
        except (SafetensorError, OSError, KeyError, ValueError) as error:
            raise RefocusError(f"{file}: cannot resume from it ({error})") from error
        restored: dict[str, Any] = _restore(state, tensors)
        return restored

    def remove_checkpoint(self, path: Any) -> None:
        """Delete a state."""
        (Path(path) / "run.safetensors").unlink(missing_ok=True)
        Path(path).rmdir()


def _flatten(value: Any, where: str, tensors: dict[str, torch.Tensor]) -> Any:
    """Take the tensors out of a nested state, leaving JSON that names them."""
    if isinstance(value, torch.Tensor):
        tensors[where] = value.detach().cpu().contiguous().clone()
        return {"$tensor": where}
    if isinstance(value, dict):
        pairs = [
            [_flatten(k, "", tensors), _flatten(v, f"{where}/{k}", tensors)]
            for k, v in value.items()
        ]
        return {"$dict": pairs}
    if isinstance(value, list | tuple):
        items = [_flatten(v, f"{where}/{i}", tensors) for i, v in enumerate(value)]
        return {"$tuple": items} if isinstance(value, tuple) else items
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return str(value)


def _restore(value: Any, tensors: dict[str, torch.Tensor]) -> Any:
    if isinstance(value, list):
        return [_restore(v, tensors) for v in value]
    if isinstance(value, dict):
        if "$tensor" in value:
            return tensors[value["$tensor"]]
        if "$tuple" in value:
            return tuple(_restore(v, tensors) for v in value["$tuple"])
        return {_restore(k, tensors): _restore(v, tensors) for k, v in value["$dict"]}
    return value
