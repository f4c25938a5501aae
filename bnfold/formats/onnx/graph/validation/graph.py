"""A graph: its names, the order of its nodes, and every node by itself."""

from __future__ import annotations

import math
from collections.abc import Iterator

import onnx

from bnfold.errors import ModelError
from bnfold.formats.onnx.file.sizes import DATA_TYPES, MOST_ELEMENTS
from bnfold.formats.onnx.graph.scopes import bodies_of
from bnfold.formats.onnx.graph.validation.names import validate_names
from bnfold.formats.onnx.graph.validation.nodes import validate_node
from bnfold.formats.onnx.graph.validation.order import put_in_order


def validate_graph(model: onnx.ModelProto) -> None:
    """The main graph and the bodies inside it; its nodes are put in order where they are not.

    Raises:
        ModelError: with the name or node that is wrong.
    """
    validate_names(model.graph)
    _check_types(model.graph)
    _check_sizes(model.graph)
    put_in_order(model.graph)
    version = next((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), 1)
    for node in _nodes(model.graph):
        validate_node(node, version)
        for body in bodies_of(node):
            _check_types(body)


def _check_types(graph: onnx.GraphProto) -> None:
    for value in (*graph.input, *graph.output, *graph.value_info):
        for code in _codes(value.type):
            if code not in DATA_TYPES and code != onnx.TensorProto.UNDEFINED:
                raise ModelError(f"value {value.name!r} has the unknown data type {code}")


def _check_sizes(graph: onnx.GraphProto) -> None:
    for value in (*graph.input, *graph.output):
        dims = [d.dim_value for d in value.type.tensor_type.shape.dim]
        if math.prod(n for n in dims if n > 0) > MOST_ELEMENTS:
            raise ModelError(f"value {value.name!r} has more elements than there can be, {dims}")


def _codes(declared: onnx.TypeProto) -> Iterator[int]:
    """The element types in a type, which may be one of sequences."""
    yield declared.tensor_type.elem_type
    yield declared.sparse_tensor_type.elem_type
    for name in ("sequence_type", "optional_type"):
        if declared.HasField(name):
            yield from _codes(getattr(declared, name).elem_type)


def _nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    for node in graph.node:
        yield node
        for body in bodies_of(node):
            yield from _nodes(body)
