"""Model files: card, checksum, and everything that can be wrong with one."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from refocus.engine import EngineError, open_engine
from refocus.engine.model_file import CARD_KEY, embed_card, read_model


def _truncated(model: onnx.ModelProto, path: Path) -> None:
    path.write_bytes(model.SerializeToString()[:1000])


def _not_onnx(model: onnx.ModelProto, path: Path) -> None:
    path.write_bytes(b"this is no model")


def _empty(model: onnx.ModelProto, path: Path) -> None:
    path.write_bytes(b"")


def _without_card(model: onnx.ModelProto, path: Path) -> None:
    del model.metadata_props[:]
    onnx.save(model, path)


def _with_a_strange_card(model: onnx.ModelProto, path: Path) -> None:
    next(p for p in model.metadata_props if p.key == CARD_KEY).value = '{"name": "x"}'
    onnx.save(model, path)


def _with_another_weight(model: onnx.ModelProto, path: Path) -> None:
    weight = max(model.graph.initializer, key=lambda t: int(np.prod(t.dims)))
    values = onnx.numpy_helper.to_array(weight).copy()
    values.flat[0] += 1e-3
    weight.CopyFrom(onnx.numpy_helper.from_array(values, weight.name))
    onnx.save(model, path)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (_truncated, "not a readable ONNX model"),
        (_not_onnx, "not a readable ONNX model"),
        (_empty, "not a readable ONNX model"),
        (_without_card, "carries no model card"),
        (_with_a_strange_card, "model card is not valid"),
        (_with_another_weight, "do not match the checksum"),
    ],
)
@pytest.mark.parametrize("engine", ["openvino", "torch"])
def test_damaged_models_are_refused_in_one_line(
    model_file: Path,
    tmp_path: Path,
    damage: Callable[[onnx.ModelProto, Path], None],
    words: str,
    engine: str,
) -> None:
    path = tmp_path / "damaged.onnx"
    damage(onnx.load(model_file), path)
    with pytest.raises(EngineError, match=words) as caught:
        open_engine(engine, path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_model(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="no such model"):
        open_engine(tmp_path / "none.onnx")


def test_card_is_signed_anew(model_file: Path) -> None:
    model, card = read_model(model_file)
    again = embed_card(model, card.model_copy(update={"name": "other", "sha256": ""}))
    assert again.sha256 == card.sha256
    assert [p.key for p in model.metadata_props].count(CARD_KEY) == 1
