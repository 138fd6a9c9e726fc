"""What a model file says of itself, brought up to the configuration that it was made from."""

import os
from pathlib import Path

import onnx

from refocus.configs import ModelCard, RefocusError
from refocus.configs.training import TrainConfig
from refocus.engine.model_file import embed_card, read_model

TOLD = ("licence", "training_data", "stains")
"""What a configuration says of the data, and no file of weights can know."""


def write_card(path: Path, config: TrainConfig) -> ModelCard:
    """Write what a configuration says of the data into the card of a model that it made.

    Weights and graph stay as they are, and their checksums with them.

    Parameters
    ----------
    path
        ONNX file with a card.
    config
        Of the same name and architecture.

    Raises
    ------
    RefocusError
        The file is no model of ours, is another configuration's, or cannot be written.
    """
    if path.suffix.lower() != ".onnx":
        raise RefocusError(f"{path}: a model's file name ends in .onnx; name such a file")
    model, card = read_model(path)
    made = (card.name, card.architecture)
    if made != (config.name, config.architecture):
        raise RefocusError(
            f"{path}: is {' '.join(made)}, and the configuration makes {config.name} "
            f"{config.architecture}; name the one that it was made from"
        )
    told = {name: getattr(config, name) for name in TOLD}
    card = embed_card(model, card.model_copy(update=told))
    part = path.with_name(f"{path.stem}.part.onnx")
    try:
        onnx.save(model, str(part))
        os.replace(part, path)
    except OSError as error:
        raise RefocusError(f"{path}: cannot be written ({error.strerror})") from error
    finally:
        part.unlink(missing_ok=True)
    return card
