"""FP16 graphs: what is converted, and what must not be."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from refocus.engine import EngineError
from refocus.engine.half_precision import half_precision, precision
from refocus.engine.model_file import read_model


@pytest.fixture(scope="module")
def half(half_model_file: Path) -> onnx.ModelProto:
    return onnx.shape_inference.infer_shapes(onnx.load(half_model_file))


def _types(model: onnx.ModelProto) -> dict[str, int]:
    graph = model.graph
    values = [*graph.value_info, *graph.input, *graph.output]
    types = {v.name: v.type.tensor_type.elem_type for v in values}
    return types | {t.name: t.data_type for t in graph.initializer}


def test_every_convolution_is_fp16(half: onnx.ModelProto) -> None:
    types = _types(half)
    convolutions = [n for n in half.graph.node if n.op_type == "Conv"]
    assert convolutions
    for node in convolutions:
        assert {types[name] for name in node.input} == {TensorProto.FLOAT16}


def test_pixels_and_the_sum_stay_fp32(half: onnx.ModelProto) -> None:
    types = _types(half)
    for value in (*half.graph.input, *half.graph.output):
        assert types[value.name] == TensorProto.FLOAT
    total = next(n for n in half.graph.node if "refocused" in n.output)
    assert total.op_type == "Add"
    assert "frames" in total.input
    assert {types[name] for name in total.input} == {TensorProto.FLOAT}


def test_sixteen_bits_of_the_camera_survive(half_model_file: Path) -> None:
    """Pixels that the network leaves alone come back to the last bit."""
    import torch

    from refocus.engine.torch.graph import TorchGraph

    model = onnx.load(half_model_file)
    for tensor in model.graph.initializer:
        if tensor.name.startswith("output.correction"):
            zeros = np.zeros_like(onnx.numpy_helper.to_array(tensor))
            tensor.CopyFrom(onnx.numpy_helper.from_array(zeros, tensor.name))
    frames = torch.linspace(0, 1, 32 * 32).reshape(1, 1, 32, 32)
    with torch.inference_mode():
        assert torch.equal(TorchGraph(model)(frames), frames)


def test_half_the_size_and_converted_once(model_file: Path, half_model_file: Path) -> None:
    model, _ = read_model(model_file)
    half, _ = read_model(half_model_file)
    assert (precision(model), precision(half)) == ("fp32", "fp16")
    assert half_precision(half) is half
    assert half_model_file.stat().st_size < 0.6 * model_file.stat().st_size


def test_weight_that_does_not_fit(model_file: Path) -> None:
    model, _ = read_model(model_file)
    weight = next(t for t in model.graph.initializer if t.name.endswith("correction.weight"))
    values = onnx.numpy_helper.to_array(weight) * np.float32(1e7)
    weight.CopyFrom(onnx.numpy_helper.from_array(values, weight.name))
    with pytest.raises(EngineError, match=r"correction\.weight does not fit FP16"):
        half_precision(model)
