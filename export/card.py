"""What a model file says of itself, brought up to the configuration that it was made from."""

from pathlib import Path

from refocus.configs import ModelCard, RefocusError
from refocus.configs.training import TrainConfig
from refocus.engine.model_file import embed_card, read_model, write_model
from refocus.engine.protocol import log

TOLD = ("licence", "training_data", "stains")
"""What a configuration says of the data, and no file of weights can know."""


def write_card(path: Path, config: TrainConfig) -> ModelCard:
    """Write what a configuration says of the data into the card of a model that it made.

    Weights and graph stay as they are, and their checksums with them. The log says which licence
    took the place of another.

    Parameters
    ----------
    path
        ONNX file with a card.
    config
        Of the same name, version and architecture.

    Raises
    ------
    RefocusError
        The file is no model of ours, is another configuration's, or cannot be written.
    """
    if path.suffix.lower() != ".onnx":
        raise RefocusError(f"{path}: a model's file name ends in .onnx; name such a file")
    model, card = read_model(path)
    made, makes = (f"{of.name} {of.version} ({of.architecture})" for of in (card, config))
    if made != makes:
        raise RefocusError(
            f"{path}: is {made}, and the configuration makes {makes}; name the one that it was "
            "made from"
        )
    if card.licence != config.licence:
        log.warning("%s: the licence was %s, and is %s now", path, card.licence, config.licence)
    told = {name: getattr(config, name) for name in TOLD}
    card = embed_card(model, card.model_copy(update=told))
    write_model(model, path)
    return card
