"""A model in strongly typed FP16: the type of every value is in the graph, as TensorRT reads it.

Convolutions and what lies between them are FP16. The camera's pixels, the sum of the pixels and
the correction, and the distance and error heads stay FP32: FP16 has 11 bits, a camera 16.
"""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from refocus.engine.protocol import EngineError

MATRIX = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
"""Where the arithmetic is: always FP16."""
BETWEEN = frozenset(
    {"Relu", "LeakyRelu", "Add", "Concat", "MaxPool", "AveragePool", "BatchNormalization"}
    | {"DepthToSpace", "SpaceToDepth", "Reshape", "Transpose", "Resize", "Pad"}
)
"""FP16 wherever its input is; anything not named is FP32."""
LARGEST = float(np.finfo(np.float16).max)
FLOAT, HALF = TensorProto.FLOAT, TensorProto.FLOAT16


def precision(model: onnx.ModelProto) -> str:
    """Tell whether a model's convolutions are ``"fp16"`` or ``"fp32"``."""
    types = {t.data_type for t in model.graph.initializer}
    return "fp16" if HALF in types else "fp32"


def half_precision(model: onnx.ModelProto) -> onnx.ModelProto:
    """Convert a model to FP16, its inputs and outputs staying FP32.

    Parameters
    ----------
    model
        FP32; it is left as it is. A model that is FP16 already is given back.

    Returns
    -------
    onnx.ModelProto
        The metadata are copied; a card is to be embedded anew, since the weights are others.

    Raises
    ------
    EngineError
        A weight does not fit FP16.
    """
    if precision(model) == "fp16":
        return model
    return _Conversion(model).result


class _Conversion:
    """One walk through a graph, in its order, casting where types meet."""

    def __init__(self, model: onnx.ModelProto) -> None:
        inferred = onnx.shape_inference.infer_shapes(model)
        self._weights = {t.name: t for t in model.graph.initializer}
        self._inputs = {i.name for i in model.graph.input}
        self._types = {name: t.data_type for name, t in self._weights.items()}
        for value in (*inferred.graph.value_info, *inferred.graph.input):
            self._types[value.name] = value.type.tensor_type.elem_type
        self._nodes: list[onnx.NodeProto] = []
        self._cast: dict[tuple[str, int], str] = {}
        self._kept: dict[str, TensorProto] = {}
        for node in model.graph.node:
            self._convert(node, {o.name for o in model.graph.output})
        self.result = self._assemble(model)

    def _convert(self, node: onnx.NodeProto, outputs: set[str]) -> None:
        measured = node.op_type in ("Shape", "Size")
        # the scales of a Resize are FP32 by definition
        typed = node.input[:1] if node.op_type == "Resize" else node.input
        floats = [n for n in typed if self._types.get(n) in (FLOAT, HALF) and not measured]
        kind = self._kind(node, floats) if floats else FLOAT
        converted = onnx.NodeProto()
        converted.CopyFrom(node)
        for i, name in enumerate(node.input):
            converted.input[i] = self._as(name, kind) if name in floats else self._keep(name)
        self._nodes.append(converted)
        for i, name in enumerate(node.output if floats else ()):
            self._types[name] = kind
            if kind == HALF and name in outputs:
                converted.output[i] = name + "_half"
                self._nodes.append(helper.make_node("Cast", [name + "_half"], [name], to=FLOAT))
                self._types[name] = FLOAT
                self._cast[name, HALF] = name + "_half"  # for those that go on from an output

    def _kind(self, node: onnx.NodeProto, floats: list[str]) -> int:
        if node.op_type in MATRIX:
            return HALF
        if node.op_type not in BETWEEN:
            return FLOAT
        if node.op_type == "Add" and self._inputs & set(floats):
            return FLOAT  # the captured pixels plus the correction
        computed = [n for n in floats if n not in self._weights]
        single = computed and all(self._types[n] == FLOAT for n in computed)
        return FLOAT if single and not self._inputs & set(computed) else HALF

    def _as(self, name: str, kind: int) -> str:
        """Name the value in the type wanted, casting once."""
        if self._types[name] == kind:
            return self._keep(name)
        if (name, kind) not in self._cast:
            suffix = "_half" if kind == HALF else "_single"
            if name in self._weights:
                self._kept[name + suffix] = _halved(self._weights[name], name + suffix)
            else:
                self._nodes.append(helper.make_node("Cast", [name], [name + suffix], to=kind))
            self._cast[name, kind] = name + suffix
        return self._cast[name, kind]

    def _keep(self, name: str) -> str:
        if name in self._weights:
            self._kept[name] = self._weights[name]
        return name

    def _assemble(self, model: onnx.ModelProto) -> onnx.ModelProto:
        half = onnx.ModelProto()
        half.CopyFrom(model)
        for field in ("node", "initializer", "value_info"):
            half.graph.ClearField(field)
        half.graph.node.extend(self._nodes)
        half.graph.initializer.extend(self._kept.values())
        onnx.checker.check_model(half, full_check=True)
        return half


def _halved(tensor: TensorProto, name: str) -> TensorProto:
    values = numpy_helper.to_array(tensor)
    if not np.abs(values).max(initial=0.0) < LARGEST:
        raise EngineError(
            f"weight {tensor.name} does not fit FP16 (largest {np.abs(values).max():g}); "
            "keep this model in fp32"
        )
    return numpy_helper.from_array(values.astype(np.float16), name)
