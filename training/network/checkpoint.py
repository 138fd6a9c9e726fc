"""Checkpoints without pickles: weights in safetensors, with a card.

What resuming a run needs is in :mod:`refocus.training.run_state`.
"""

from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from refocus.configs import ModelCard, RefocusError, reason_of
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
        raise RefocusError(
            f"{path}: not a readable safetensors file ({reason_of(error)}); replace it"
        ) from error
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
