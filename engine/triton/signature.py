"""What a model repository says of its model, so that nobody is served another one.

'refocus-export triton' writes it into the configuration, and a client compares it with its own
copy. The number of the model's version comes from the same checksums and is named with every
frame: a server that is given another model in mid-run refuses, instead of answering with that.
"""

import hashlib
from collections.abc import Mapping

import onnx

from refocus.configs import ModelCard
from refocus.engine.graph_digest import graph_sha256
from refocus.engine.protocol import EngineError

FORMAT = "1"
PREFIX = "refocus-"


def signature(proto: onnx.ModelProto, card: ModelCard) -> dict[str, str]:
    """Give what identifies a model, by the names of Triton's parameters."""
    said = {
        "format": FORMAT,
        "model": card.name,
        "version": card.version,
        "sha256": card.sha256,
        "graph-sha256": graph_sha256(proto),
    }
    return {PREFIX + key: value for key, value in said.items()}


def version_number(signed: Mapping[str, str]) -> int:
    """Give the number that Triton knows this model's version by."""
    both = signed[PREFIX + "sha256"] + signed[PREFIX + "graph-sha256"]
    return int(hashlib.sha256(both.encode()).hexdigest()[:7], 16) + 1


def check_signature(
    mine: Mapping[str, str], theirs: Mapping[str, str], where: str, name: str
) -> None:
    """Refuse a server whose model is not the one that this host has.

    Raises
    ------
    EngineError
        The model there was not exported by this project, by another release, or is another.
    """
    again = "write its repository again with 'refocus-export triton'"
    found = theirs.get(PREFIX + "format")
    if found is None:
        raise EngineError(f"{where}: the model {name} there says nothing of its origin; {again}")
    if found != FORMAT:
        raise EngineError(
            f"{where}: the repository of {name} has format {found[:20]}, and {FORMAT} is "
            f"understood here; {again} of this release"
        )
    for key, what in (
        ("model", "is"),
        ("version", "has version"),
        ("sha256", "has weights with the checksum"),
        ("graph-sha256", "has a graph with the checksum"),
    ):
        wanted, given = mine[PREFIX + key], theirs.get(PREFIX + key, "")
        if given != wanted:
            raise EngineError(
                f"{where}: the model {name} there {what} {given[:12] or 'none'}, and that of this "
                f"host {wanted[:12]}; {again}, or name its file with ?model=FILE"
            )
