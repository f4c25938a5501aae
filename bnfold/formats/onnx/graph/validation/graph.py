"""A graph: its names, the order of its nodes, and every node by itself."""

from __future__ import annotations

from collections.abc import Iterator

import onnx

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
    put_in_order(model.graph)
    version = next((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), 1)
    for node in _nodes(model.graph):
        validate_node(node, version)


def _nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    for node in graph.node:
        yield node
        for body in bodies_of(node):
            yield from _nodes(body)
