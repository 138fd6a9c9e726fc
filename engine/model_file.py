"""Model files: an ONNX graph that carries its own card and checksums."""

import errno
import hashlib
import os
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import onnx
from pydantic import ValidationError

from refocus.configs import ModelCard, RefocusError, reason_of
from refocus.configs.files import is_no_file
from refocus.configs.trust import TrustStatistics
from refocus.engine.graph_digest import graph_sha256, numbers
from refocus.engine.package import MOST_MODEL, model_in_package
from refocus.engine.protocol import EngineError, log

CARD_KEY = "refocus"
TRUST_KEY = "refocus-trust"
ESTIMATOR_KEY = "refocus-light-paths"
GRAPH_KEY = "refocus-graph-sha256"


def initialisers_sha256(model: onnx.ModelProto) -> str:
    """Digest a model's weights: name, type, shape and bytes of every initialiser, in order."""
    digest = hashlib.sha256()
    for tensor in model.graph.initializer:
        digest.update(f"{tensor.name}|{tensor.data_type}|{list(tensor.dims)}|".encode())
        digest.update(numbers(tensor))
    return digest.hexdigest()


def embed_card(model: onnx.ModelProto, card: ModelCard) -> ModelCard:
    """Write a card into a model's metadata, with the checksum of its weights; give it back.

    That of the whole graph is written beside it.
    """
    signed = card.model_copy(update={"sha256": initialisers_sha256(model)})
    _write(model, GRAPH_KEY, graph_sha256(model))
    _write(model, CARD_KEY, signed.model_dump_json())
    return signed


def embed_trust(model: onnx.ModelProto, statistics: TrustStatistics) -> None:
    """Write into a model's metadata what its verdicts are computed with."""
    _write(model, TRUST_KEY, statistics.model_dump_json())


def embed_estimator(model: onnx.ModelProto, weights: str) -> None:
    """Write into a model's metadata the estimator of light paths, as JSON."""
    _write(model, ESTIMATOR_KEY, weights)


def _write(model: onnx.ModelProto, key: str, value: str) -> None:
    for stale in [p for p in model.metadata_props if p.key == key]:
        model.metadata_props.remove(stale)
    entry = model.metadata_props.add()
    entry.key, entry.value = key, value


def read_trust(model: onnx.ModelProto, card: ModelCard, where: str) -> TrustStatistics | None:
    """Read what a model's verdicts are computed with; None where it was not calibrated.

    Raises
    ------
    EngineError
        The card promises it, and it is missing, not valid, or has another checksum.
    """
    if card.trust is None:
        return None
    stored = [p.value for p in model.metadata_props if p.key == TRUST_KEY]
    try:
        statistics = TrustStatistics.model_validate_json(stored[0])
    except (IndexError, ValidationError) as error:
        raise EngineError(
            f"{where}: what its verdicts need is missing or not valid; calibrate it again with "
            "'refocus-train calibrate'"
        ) from error
    if statistics.digest() != card.trust.sha256:
        raise EngineError(
            f"{where}: what its verdicts need does not match the checksum of its card; it is "
            "damaged or was altered: calibrate it again with 'refocus-train calibrate'"
        )
    return statistics


def read_model(path: Path) -> tuple[onnx.ModelProto, ModelCard]:
    """Read a model, and check its weights against its card and its graph against its checksum.

    It may be the one in a BioImage.IO package.
    A model made before graphs had one is opened with a warning in the log ``refocus.engine``.

    Raises
    ------
    EngineError
        The file is missing, is no ONNX, has no card, is no network of frames, or its weights or
        its graph are not those that were signed.
    """
    if not path.is_file():
        raise EngineError(f"{path}: no such model; give a .onnx file made by 'refocus-export onnx'")
    try:
        model = _load(path)
        found, graph = initialisers_sha256(model), graph_sha256(model)
        onnx.checker.check_model(model)
    except EngineError:
        raise
    except Exception as error:  # protobuf and onnx each raise their own
        raise EngineError(
            f"{path}: not a readable ONNX model ({reason_of(error)}); fetch or export it again"
        ) from error
    cards = [p.value for p in model.metadata_props if p.key == CARD_KEY]
    if not cards:
        raise EngineError(f"{path}: carries no model card; export it with 'refocus-export onnx'")
    try:
        card = ModelCard.model_validate_json(cards[0])
    except ValidationError as error:
        raise EngineError(f"{path}: its model card is not valid ({reason_of(error)})") from error
    if card.sha256 != found:
        raise EngineError(
            f"{path}: weights do not match the checksum of its card; it is damaged or was altered: "
            "fetch or export it again"
        )
    _check_graph(model, graph, path)
    _check_shapes(model, card, path)
    return model, card


def write_model(
    model: onnx.ModelProto, path: Path, check: Callable[[Path], object] = lambda part: None
) -> None:
    """Write a model, which is there when it is whole; a link stays one.

    Parameters
    ----------
    model
        With its card.
    path
        Where to; folders on the way are made.
    check
        Is asked of the written file before it takes its place; what it raises keeps it from it.

    Raises
    ------
    RefocusError
        It cannot be written.
    """
    whole = path.resolve()
    part = whole.with_name(f".{whole.stem}.part.onnx")
    try:
        if is_no_file(whole):
            raise OSError(errno.EEXIST, "is there, and is no regular file")
        whole.parent.mkdir(parents=True, exist_ok=True)
        onnx.save(model, str(part))
        check(part)
        os.replace(part, whole)
    except OSError as error:
        raise RefocusError(f"{path}: cannot be written ({reason_of(error)})") from error
    finally:
        with suppress(OSError):  # what went wrong first is what is told
            part.unlink(missing_ok=True)


def opset(model: onnx.ModelProto) -> int:
    """Give the version of ONNX's own operators that a model needs."""
    return next(int(o.version) for o in model.opset_import if not o.domain)


def _load(path: Path) -> onnx.ModelProto:
    if zipfile.is_zipfile(path):
        return onnx.load_model_from_string(model_in_package(path))
    if path.stat().st_size > MOST_MODEL:
        raise EngineError(
            f"{path}: is larger than {MOST_MODEL / 1e6:g} MB; give a model of 'refocus-export onnx'"
        )
    return onnx.load(str(path), load_external_data=False)


def _check_graph(model: onnx.ModelProto, found: str, path: Path) -> None:
    stored = [p.value for p in model.metadata_props if p.key == GRAPH_KEY]
    if not stored:
        log.warning(
            "%s: made before models carried a checksum of their graph, so only its weights are "
            "checked; 'refocus-export onnx' or 'refocus-train calibrate' adds one",
            path,
        )
    elif stored != [found]:
        raise EngineError(
            f"{path}: its graph does not match its checksum; it is damaged or was altered: "
            "fetch or export it again"
        )


def _check_shapes(model: onnx.ModelProto, card: ModelCard, path: Path) -> None:
    """Refuse a graph that does not take a frame, or what its card says is made of one."""
    weights = {tensor.name for tensor in model.graph.initializer}
    taken = [_shape(value) for value in model.graph.input if value.name not in weights]
    given = [_shape(value) for value in model.graph.output if value.name == "refocused"]
    if (taken, given) not in [([(4, n)], [(4, m)]) for n in (0, card.inputs) for m in (0, 1)]:
        raise EngineError(
            f"{path}: does not make one frame of {card.inputs} × (H, W) of float32, as its card "
            "says; export it again"
        )


def _shape(value: onnx.ValueInfoProto) -> tuple[int, int]:
    """Give how many axes a value of float32 has, and its channels, 0 where any number will do."""
    tensor = value.type.tensor_type
    if tensor.elem_type != onnx.TensorProto.FLOAT or len(tensor.shape.dim) < 2:
        return 0, 0
    return len(tensor.shape.dim), tensor.shape.dim[1].dim_value
