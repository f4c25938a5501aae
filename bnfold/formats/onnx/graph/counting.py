"""How many nodes a model holds, the bodies of control flow included."""

from __future__ import annotations

from collections.abc import Set

import onnx

from bnfold.formats.onnx.graph.scopes import bodies_of

BATCH_NORMS = frozenset({"BatchNormalization"})


def count_nodes(graph: onnx.GraphProto, ops: Set[str] | None = None) -> int:
    """How many nodes (of some operators) a graph and the bodies in it hold."""
    total = 0
    for node in graph.node:
        total += ops is None or node.op_type in ops
        total += sum(count_nodes(body, ops) for body in bodies_of(node))
    return total
