"""The order of nodes: a file need not keep it, and none exists where nodes wait for each other."""

from __future__ import annotations

from graphlib import CycleError, TopologicalSorter

import onnx

from bnfold.errors import ModelError
from bnfold.formats.onnx.graph.scopes import bodies_of, captured_names, label


def put_in_order(graph: onnx.GraphProto | onnx.FunctionProto) -> None:
    """Puts each node behind those that it waits for, in bodies as well; leaves a sorted graph alone.

    Raises:
        ModelError: where a node waits for its own result.
    """
    for node in graph.node:
        for body in bodies_of(node):
            put_in_order(body)
    made = {name: place for place, node in enumerate(graph.node) for name in node.output if name}
    waits = {
        place: {made[name] for name in _names_read(node) if name in made}
        for place, node in enumerate(graph.node)
    }
    if all(earlier < place for place, others in waits.items() for earlier in others):
        return
    try:
        order = list(TopologicalSorter(waits).static_order())
    except CycleError as error:
        culprit = graph.node[error.args[1][0]]
        raise ModelError(f"{label(culprit)} waits for its own result") from None
    nodes = [onnx.NodeProto.FromString(graph.node[i].SerializeToString()) for i in order]
    del graph.node[:]
    graph.node.extend(nodes)


def _names_read(node: onnx.NodeProto) -> set[str]:
    names = set(node.input)
    for body in bodies_of(node):
        names |= captured_names(body)
    return names
