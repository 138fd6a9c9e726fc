"""An ONNX graph as a PyTorch module, so that one model file serves every engine.

Only the operators that refocusing networks are made of; :data:`OPERATORS` is the list. Values
that a graph computes from shapes stay plain integers on the host, so nothing waits for the device.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn
from torch.nn import functional as F

from refocus.engine.protocol import EngineError

Attributes = dict[str, Any]
Operator = Callable[[list[Any], Attributes], Any]


class TorchGraph(nn.Module):
    """Runs a graph node by node.

    Parameters
    ----------
    model
        Read and checked. FP16 and FP32 graphs run in the types they state.
    outputs
        The outputs wanted; what only others need is not computed.

    Raises
    ------
    EngineError
        The graph has an operator that is not known here.
    """

    def __init__(self, model: onnx.ModelProto, outputs: tuple[str, ...] = ("refocused",)) -> None:
        super().__init__()
        self._outputs = outputs
        self._input = model.graph.input[0].name
        self._steps = [_Step(n) for n in _needed(model.graph, outputs)]
        unknown = sorted({s.name for s in self._steps} - OPERATORS.keys())
        if unknown:
            raise EngineError(
                f"PyTorch engine: operator {', '.join(unknown)} of this model is not supported; "
                "use the engine 'openvino'"
            )
        used = {name for step in self._steps for name in step.inputs}
        scales = {s.inputs[2] for s in self._steps if s.name == "Resize" and len(s.inputs) > 2}
        _free_early(self._steps, kept=set(outputs))
        self._slots: dict[str, str] = {}
        self._whole: dict[str, Any] = {}
        for number, weight in enumerate(t for t in model.graph.initializer if t.name in used):
            values = numpy_helper.to_array(weight)
            if values.dtype.kind == "f" and values.ndim and weight.name not in scales:
                self._slots[weight.name] = f"weight_{number}"
                self.register_buffer(f"weight_{number}", torch.from_numpy(values.copy()))
            else:
                self._whole[weight.name] = values.tolist()

    def forward(self, frames: Tensor) -> Any:
        """Give the output, or a tuple of them, for ``(N, 1, H, W)``."""
        values: dict[str, Any] = {self._input: frames, "": None, **self._whole}
        values |= {name: getattr(self, slot) for name, slot in self._slots.items()}
        for step in self._steps:
            values[step.output] = step.run([values[name] for name in step.inputs], step.attributes)
            for name in step.last_use:
                values.pop(name, None)
        given = tuple(values[name] for name in self._outputs)
        return given[0] if len(given) == 1 else given


class _Step:
    """One node: what it does, to what."""

    def __init__(self, node: onnx.NodeProto) -> None:
        self.name = node.op_type
        self.run: Operator = OPERATORS.get(node.op_type, _unknown)
        self.inputs = list(node.input)
        self.output = node.output[0]
        self.attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        self.last_use: list[str] = []


def _needed(graph: onnx.GraphProto, outputs: tuple[str, ...]) -> list[onnx.NodeProto]:
    wanted, needed = set(outputs), []
    for node in reversed(graph.node):
        if wanted & set(node.output):
            wanted |= set(node.input)
            needed.append(node)
    return needed[::-1]


def _free_early(steps: list[_Step], kept: set[str]) -> None:
    """Note at each step which values nobody needs after it."""
    seen = set(kept)
    for step in reversed(steps):
        step.last_use = [name for name in dict.fromkeys(step.inputs) if name and name not in seen]
        seen.update(step.last_use)


def _unknown(values: list[Any], _: Attributes) -> Any:
    raise NotImplementedError


def _padding(a: Attributes, what: str) -> list[int]:
    pads = list(a.get("pads", (0, 0, 0, 0)))
    if pads[:2] != pads[2:] or a.get("auto_pad", b"NOTSET") != b"NOTSET":
        raise EngineError(f"PyTorch engine: {what} with uneven padding is not supported")
    return pads[:2]


def _conv(v: list[Any], a: Attributes) -> Tensor:
    return F.conv2d(
        v[0],
        v[1],
        v[2] if len(v) > 2 else None,
        stride=list(a.get("strides", (1, 1))),
        padding=_padding(a, "a convolution"),
        dilation=list(a.get("dilations", (1, 1))),
        groups=a.get("group", 1),
    )


def _max_pool(v: list[Any], a: Attributes) -> Tensor:
    return F.max_pool2d(
        v[0],
        list(a["kernel_shape"]),
        list(a.get("strides", (1, 1))),
        _padding(a, "a pooling"),
        ceil_mode=bool(a.get("ceil_mode", 0)),
    )


def _average_pool(v: list[Any], a: Attributes) -> Tensor:
    return F.avg_pool2d(
        v[0],
        list(a["kernel_shape"]),
        list(a.get("strides", (1, 1))),
        _padding(a, "a pooling"),
        bool(a.get("ceil_mode", 0)),
        bool(a.get("count_include_pad", 0)),
    )


def _batch_norm(v: list[Any], a: Attributes) -> Tensor:
    return F.batch_norm(v[0], v[3], v[4], v[1], v[2], False, 0.0, a.get("epsilon", 1e-5))


def _depth_to_space(v: list[Any], a: Attributes) -> Tensor:
    if a.get("mode", b"DCR") != b"CRD":
        raise EngineError("PyTorch engine: DepthToSpace other than CRD is not supported")
    return F.pixel_shuffle(v[0], a["blocksize"])


def _shape(v: list[Any], a: Attributes) -> list[int]:
    return list(v[0].shape)[a.get("start", 0) : a.get("end")]


def _reshape(v: list[Any], a: Attributes) -> Tensor:
    tensor, shape = v
    kept = not a.get("allowzero", 0)
    sizes = [tensor.shape[i] if n == 0 and kept else n for i, n in enumerate(shape)]
    result: Tensor = tensor.reshape(sizes)
    return result


def _concat(v: list[Any], a: Attributes) -> Any:
    if isinstance(v[0], Tensor):
        return torch.cat(v, a["axis"])
    return [n for part in v for n in part]


def _slice(v: list[Any], _: Attributes) -> Any:
    data, starts, stops = v[:3]
    axes = v[3] if len(v) > 3 and v[3] is not None else list(range(len(starts)))
    steps = v[4] if len(v) > 4 and v[4] is not None else [1] * len(starts)
    if not isinstance(data, Tensor):
        return data[starts[0] : stops[0] : steps[0]]
    cut = [slice(None)] * data.ndim
    for axis, start, stop, step in zip(axes, starts, stops, steps, strict=True):
        cut[axis] = slice(start, stop, step)
    return data[tuple(cut)]


def _gather(v: list[Any], a: Attributes) -> Any:
    data, index = v
    if isinstance(data, Tensor) or a.get("axis", 0) != 0:
        raise EngineError("PyTorch engine: Gather of pixels is not supported")
    return [data[i] for i in index] if isinstance(index, list) else data[index]


def _cast(v: list[Any], a: Attributes) -> Any:
    if not isinstance(v[0], Tensor):
        return v[0]
    dtype = onnx.helper.tensor_dtype_to_np_dtype(a["to"])
    return v[0].to({np.dtype("float16"): torch.float16}.get(dtype, torch.float32))


def _resize(v: list[Any], a: Attributes) -> Tensor:
    scales: list[float] = (v[2] if len(v) > 2 else None) or []
    how = (a.get("mode", b"nearest"), a.get("coordinate_transformation_mode"))
    whole = len(scales) == 4 and all(s == int(s) >= 1 for s in scales)
    if how != (b"nearest", b"asymmetric") or a.get("nearest_mode") != b"floor" or not whole:
        raise EngineError("PyTorch engine: Resize other than repeating pixels is not supported")
    return F.interpolate(v[0], scale_factor=[float(s) for s in scales[2:]], mode="nearest")


def _clip(v: list[Any], _: Attributes) -> Tensor:
    low, high = (v[i] if len(v) > i else None for i in (1, 2))
    return torch.clamp(v[0], low, high)


def _pointwise(
    tensors: Callable[[Any, Any], Any], integers: Callable[[int, int], int] | None = None
) -> Operator:
    """Make an operator of two, which graphs also apply to shapes."""
    whole = integers or tensors

    def run(v: list[Any], _: Attributes) -> Any:
        a, b = v
        if isinstance(a, Tensor) or isinstance(b, Tensor):
            return tensors(a, b)
        if isinstance(a, list) or isinstance(b, list):
            length = len(a) if isinstance(a, list) else len(b)
            left = a if isinstance(a, list) else [a] * length
            right = b if isinstance(b, list) else [b] * length
            left, right = (x * length if len(x) == 1 else x for x in (left, right))
            return [whole(x, y) for x, y in zip(left, right, strict=True)]
        return whole(a, b)

    return run


OPERATORS: dict[str, Operator] = {
    "Add": _pointwise(lambda a, b: a + b),
    "AveragePool": _average_pool,
    "BatchNormalization": _batch_norm,
    "Cast": _cast,
    "Clip": _clip,
    "Concat": _concat,
    "Conv": _conv,
    "DepthToSpace": _depth_to_space,
    "Div": _pointwise(lambda a, b: a / b, lambda a, b: a // b),
    "Exp": lambda v, _: torch.exp(v[0]),
    "Gather": _gather,
    "Identity": lambda v, _: v[0],
    "MaxPool": _max_pool,
    "Mul": _pointwise(lambda a, b: a * b),
    "Neg": lambda v, _: -v[0],
    "Pow": _pointwise(lambda a, b: a**b),
    "Relu": lambda v, _: F.relu(v[0]),
    "Reshape": _reshape,
    "Resize": _resize,
    "Shape": _shape,
    "Sigmoid": lambda v, _: torch.sigmoid(v[0]),
    "Slice": _slice,
    "Sub": _pointwise(lambda a, b: a - b),
    "Transpose": lambda v, a: v[0].permute(a["perm"]),
}
