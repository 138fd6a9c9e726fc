"""Checkpoints without pickles: weights in safetensors, with a card.

What resuming a run needs is in :mod:`refocus.training.run_state`.
"""

from pathlib import Path

import torch
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from refocus.configs import ModelCard, RefocusError, reason_of
from refocus.configs.files import replacing
from refocus.configs.loading import Model
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
    write_tensors(path, state, metadata)


def write_tensors(path: Path, tensors: dict[str, torch.Tensor], metadata: dict[str, str]) -> None:
    """Write a ``.safetensors`` file, which is there when it is whole.

    Raises
    ------
    RefocusError
        It cannot be written, as on a full disk.
    """
    try:
        with replacing(path) as part:
            save_file(tensors, part, metadata=metadata)
    except (SafetensorError, OSError) as error:
        raise RefocusError(f"{path}: cannot be written ({reason_of(error)})") from error


def read_tensors(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Read a ``.safetensors`` file, and what it says of itself.

    Raises
    ------
    RefocusError
        It is damaged, or of another kind.
    """
    try:
        with safe_open(path, framework="pt") as opened:
            metadata = opened.metadata() or {}
        return load_file(path), metadata
    except (SafetensorError, OSError) as error:
        raise RefocusError(
            f"{path}: not a readable safetensors file ({reason_of(error)}); replace it"
        ) from error


def read_estimator_of(path: Path) -> EstimatorWeights | None:
    """Read the estimator of light paths that a model file of :func:`save_model` carries, if any.

    Raises
    ------
    RefocusError
        It is not valid.
    """
    with safe_open(path, framework="pt") as opened:
        stored = (opened.metadata() or {}).get(ESTIMATOR)
    return None if stored is None else _checked(EstimatorWeights, stored, path, "estimator")


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
    state, metadata = read_tensors(path)
    if "refocus" not in metadata:
        raise RefocusError(f"{path}: has no model card; was it written by 'refocus-train fit'?")
    card = _checked(ModelCard, metadata["refocus"], path, "model card")
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


def _checked(kind: type[Model], stored: str, path: Path, what: str) -> Model:
    """Read what a file carries, as another version may have written it."""
    try:
        return kind.model_validate_json(stored)
    except ValidationError as error:
        raise RefocusError(
            f"{path}: its {what} is not valid ({reason_of(error)}); was it made by another version?"
        ) from error
