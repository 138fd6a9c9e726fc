"""Model files: card, checksum, and everything that can be wrong with one."""

import json
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from refocus.configs import ModelCard, RefocusError
from refocus.engine import EngineError, open_engine
from refocus.engine.model_file import (
    CARD_KEY,
    GRAPH_KEY,
    embed_card,
    initialisers_sha256,
    read_model,
    write_model,
)
from refocus.engine.package import MOST_MODEL
from refocus.engine.shipped import default_model


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


def _with_a_card_that_is_no_json(model: onnx.ModelProto, path: Path) -> None:
    next(p for p in model.metadata_props if p.key == CARD_KEY).value = "no card"
    onnx.save(model, path)


def _with_another_weight(model: onnx.ModelProto, path: Path) -> None:
    weight = max(model.graph.initializer, key=lambda t: int(np.prod(t.dims)))
    values = onnx.numpy_helper.to_array(weight).copy()
    values.flat[0] += 1e-3
    weight.CopyFrom(onnx.numpy_helper.from_array(values, weight.name))
    onnx.save(model, path)


def _with_a_sum_made_a_difference(model: onnx.ModelProto, path: Path) -> None:
    [n for n in model.graph.node if n.op_type == "Add"][-1].op_type = "Sub"
    onnx.save(model, path)


def _with_another_attribute(model: onnx.ModelProto, path: Path) -> None:
    conv = next(n for n in model.graph.node if n.op_type == "Conv")
    next(a for a in conv.attribute if a.name == "dilations").ints[:] = [2, 2]
    onnx.save(model, path)


def _with_another_constant(model: onnx.ModelProto, path: Path) -> None:
    extra = onnx.numpy_helper.from_array(np.float32(1.5))
    node = onnx.helper.make_node("Constant", [], ["more"], value=extra)
    model.graph.node.insert(0, node)
    onnx.save(model, path)


def _with_an_output_turned(model: onnx.ModelProto, path: Path) -> None:
    maker = next(n for n in model.graph.node if "refocused" in n.output)
    maker.output[list(maker.output).index("refocused")] = "unturned"
    model.graph.node.append(onnx.helper.make_node("Neg", ["unturned"], ["refocused"]))
    onnx.save(model, path)


def _with_its_weights_beside(model: onnx.ModelProto, path: Path) -> None:
    onnx.save(model, path, save_as_external_data=True, location="weights", size_threshold=0)


def _larger_than_a_model(model: onnx.ModelProto, path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(MOST_MODEL + 1)  # sparse: nothing is written


def _with_an_infinite_range(model: onnx.ModelProto, path: Path) -> None:
    _with_card(model, path, defocus_um=[-1e999, 1e999])


def _with_a_range_turned(model: onnx.ModelProto, path: Path) -> None:
    _with_card(model, path, defocus_um=[16, -16])


def _for_more_channels(model: onnx.ModelProto, path: Path) -> None:
    _with_card(model, path, inputs=4)


def _with_card(model: onnx.ModelProto, path: Path, **lies: Any) -> None:
    entry = next(p for p in model.metadata_props if p.key == CARD_KEY)
    entry.value = json.dumps({**json.loads(entry.value), **lies})
    onnx.save(model, path)


def _with_another_input(model: onnx.ModelProto, path: Path) -> None:
    more = onnx.helper.make_tensor_value_info("more", onnx.TensorProto.FLOAT, ["N", 1, "H", "W"])
    model.graph.input.append(more)
    _signed(model, path)


def _that_gives_nothing(model: onnx.ModelProto, path: Path) -> None:
    del model.graph.output[:]
    _signed(model, path)


def _of_integers(model: onnx.ModelProto, path: Path) -> None:
    model.graph.output[0].type.tensor_type.elem_type = onnx.TensorProto.INT8
    _signed(model, path)


def _signed(model: onnx.ModelProto, path: Path) -> None:
    card = next(p.value for p in model.metadata_props if p.key == CARD_KEY)
    embed_card(model, ModelCard.model_validate_json(card))
    onnx.save(model, path)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (_truncated, "not a readable ONNX model"),
        (_not_onnx, "not a readable ONNX model"),
        (_empty, "not a readable ONNX model"),
        (_without_card, "carries no model card"),
        (_with_a_strange_card, r"model card is not valid \(\w+: Field required\)"),
        (_with_a_card_that_is_no_json, r"model card is not valid \(Invalid JSON"),
        (_with_another_weight, "do not match the checksum"),
        (_with_a_sum_made_a_difference, "graph does not match its checksum"),
        (_with_another_attribute, "graph does not match its checksum"),
        (_with_another_constant, "graph does not match its checksum"),
        (_with_an_output_turned, "graph does not match its checksum"),
        (_with_its_weights_beside, "its weights are in another file"),
        (_larger_than_a_model, "is larger than 1000 MB"),
        (_with_an_infinite_range, r"model card is not valid \(defocus_um.0: .*finite"),
        (_with_a_range_turned, "model card is not valid .*begins at 16 and ends at -16"),
        (_for_more_channels, r"does not make one frame of 4 × \(H, W\)"),
        (_with_another_input, "does not make one frame of 1"),
        (_that_gives_nothing, "does not make one frame of 1"),
        (_of_integers, "does not make one frame of 1"),
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


@pytest.mark.parametrize("engine", ["openvino", "torch"])
def test_a_result_of_another_size_than_the_frame_is_refused(
    model_file: Path, tmp_path: Path, engine: str
) -> None:
    _, card = read_model(model_file)
    halved = onnx.helper.make_node(
        "MaxPool", ["frames"], ["refocused"], kernel_shape=[2, 2], strides=[2, 2]
    )
    said = [
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["N", 1, "H", "W"])
        for name in ("frames", "refocused")
    ]
    model = onnx.helper.make_model(onnx.helper.make_graph([halved], "halved", said[:1], said[1:]))
    model.ir_version = 10
    embed_card(model, card)
    onnx.save(model, tmp_path / "halved.onnx")
    opened = open_engine(engine, tmp_path / "halved.onnx", "cpu" if engine == "torch" else None)
    with pytest.raises(EngineError, match="of a frame of 64×96"):
        opened.refocus(np.zeros((64, 96), np.uint16))
    opened.close()


def test_a_card_is_text_of_one_line_whatever_a_stranger_wrote(
    model_file: Path, tmp_path: Path
) -> None:
    strange = "a\x1b]0;title\x07\nb \u202e[bold]c"
    _with_card(onnx.load(model_file), tmp_path / "a.onnx", name=strange, stains=[strange])
    _, card = read_model(tmp_path / "a.onnx")
    assert (card.name, *card.stains) == ("a]0;title b [bold]c",) * 2


def test_missing_model(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="no such model"):
        open_engine(tmp_path / "none.onnx")


def test_card_is_signed_anew(model_file: Path) -> None:
    model, card = read_model(model_file)
    again = embed_card(model, card.model_copy(update={"name": "other", "sha256": ""}))
    assert again.sha256 == card.sha256
    assert [p.key for p in model.metadata_props].count(CARD_KEY) == 1
    assert [p.key for p in model.metadata_props].count(GRAPH_KEY) == 1


def test_what_a_graph_is_called_is_not_signed(model_file: Path, tmp_path: Path) -> None:
    model = onnx.load(model_file)
    for number, node in enumerate(model.graph.node):
        node.name, node.doc_string = f"node {number}", "renamed"
    for tensor in model.graph.initializer:  # stored otherwise, and the same numbers
        values = onnx.numpy_helper.to_array(tensor)
        if values.dtype == np.float32:
            tensor.ClearField("raw_data")
            tensor.float_data[:] = values.ravel().tolist()
    entry = model.metadata_props.add()
    entry.key, entry.value = "note", "of another program"
    onnx.save(model, tmp_path / "renamed.onnx")

    read_model(tmp_path / "renamed.onnx")


def test_a_model_made_before_graphs_were_signed_opens_with_a_warning(
    model_file: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = onnx.load(model_file)
    model.metadata_props.remove(next(p for p in model.metadata_props if p.key == GRAPH_KEY))
    onnx.save(model, tmp_path / "old.onnx")

    read_model(tmp_path / "old.onnx")

    assert ["checksum of their graph" in r.getMessage() for r in caplog.records] == [True]


def test_the_shipped_model_is_signed(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "refocus.engine"):
        model, card = read_model(default_model())

    assert not caplog.records
    assert card.sha256 == initialisers_sha256(model)


def test_a_model_is_written_whole_or_not_at_all(model_file: Path, tmp_path: Path) -> None:
    model, _ = read_model(model_file)
    write_model(model, tmp_path / "new" / "model.onnx")
    assert read_model(tmp_path / "new" / "model.onnx")[1] == read_model(model_file)[1]
    (tmp_path / "file").touch()
    with pytest.raises(RefocusError, match=r"model.onnx: cannot be written \("):
        write_model(model, tmp_path / "file" / "model.onnx")

    def refuse(part: Path) -> None:
        assert read_model(part)
        raise RefocusError("not this one")

    with pytest.raises(RefocusError, match="not this one"):
        write_model(model, tmp_path / "other.onnx", refuse)
    (tmp_path / "other.part.onnx").touch()
    write_model(model, tmp_path / "other.onnx")
    assert not (tmp_path / "other.part.onnx").stat().st_size
    os.mkfifo(tmp_path / "pipe.onnx")
    with pytest.raises(RefocusError, match="no regular file"):
        write_model(model, tmp_path / "pipe.onnx")
    assert (tmp_path / "pipe.onnx").is_fifo()
    names = ["file", "new", "other.onnx", "other.part.onnx", "pipe.onnx"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
