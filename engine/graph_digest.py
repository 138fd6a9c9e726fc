"""A checksum over all that a model computes: nodes, attributes and weights, in order.

Not over what it is called or said to be: metadata, names of nodes and descriptions may change, and
so may the way in which a tensor is stored.
"""

import hashlib
from collections.abc import Iterable
from typing import Any

import onnx


def graph_sha256(model: onnx.ModelProto) -> str:
    """Digest a model's graph, whatever its metadata."""
    digest = hashlib.sha256()
    versions = sorted(f"{o.domain or 'ai.onnx'}={o.version}" for o in model.opset_import)
    _text(digest, "opset", *versions)
    for function in model.functions:
        _text(digest, "function", function.domain, function.name, *function.input)
        _text(digest, "gives", *function.output)
        _nodes(digest, function.node)
    _graph(digest, model.graph)
    return digest.hexdigest()


def numbers(tensor: onnx.TensorProto) -> bytes:
    """Give the numbers of a tensor.

    Raises
    ------
    ValueError
        They are not in the model's own file.
    """
    if tensor.data_location == onnx.TensorProto.EXTERNAL:
        raise ValueError("its weights are in another file, and a model is one file")
    return onnx.numpy_helper.to_array(tensor).tobytes()


def _graph(digest: Any, graph: onnx.GraphProto) -> None:
    for name, values in (("input", graph.input), ("output", graph.output)):
        for value in values:
            kind = value.type.SerializeToString(deterministic=True).hex()
            _text(digest, name, value.name, kind)
    for tensor in graph.initializer:
        _tensor(digest, tensor)
    for sparse in graph.sparse_initializer:
        _text(digest, "sparse", sparse.SerializeToString(deterministic=True).hex())
    _nodes(digest, graph.node)
    _text(digest, "end")


def _nodes(digest: Any, nodes: Iterable[onnx.NodeProto]) -> None:
    for node in nodes:
        _text(digest, "node", node.domain, node.op_type, *node.input)
        _text(digest, "gives", *node.output)
        for attribute in sorted(node.attribute, key=lambda a: a.name):
            _attribute(digest, attribute)


def _attribute(digest: Any, attribute: onnx.AttributeProto) -> None:
    _text(digest, "attribute", attribute.name, str(attribute.type), attribute.ref_attr_name)
    if attribute.type in (onnx.AttributeProto.TENSOR, onnx.AttributeProto.TENSORS):
        for tensor in (attribute.t, *attribute.tensors):
            _tensor(digest, tensor)
    elif attribute.type in (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS):
        for graph in (attribute.g, *attribute.graphs):
            _graph(digest, graph)
    else:
        value = onnx.AttributeProto()
        value.CopyFrom(attribute)
        value.ClearField("doc_string")
        _text(digest, value.SerializeToString(deterministic=True).hex())


def _tensor(digest: Any, tensor: onnx.TensorProto) -> None:
    _text(digest, "tensor", tensor.name, str(tensor.data_type), *map(str, tensor.dims))
    if tensor.data_type != onnx.TensorProto.UNDEFINED:
        digest.update(numbers(tensor))


def _text(digest: Any, *words: str) -> None:
    """Take in words so that none can run into the next."""
    digest.update("".join(f"{len(word)}:{word}" for word in words).encode() + b";")
