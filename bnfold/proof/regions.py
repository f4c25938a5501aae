"""Where a plan changes a network: the nodes that it touches, and the borders of the changed pieces."""

from __future__ import annotations

from bnfold.graph import Graph, Linear, Node, Norm, Value
from bnfold.planning.decision import MergeBranches, Plan


def layers(graph: Graph) -> list[Node]:
    """All linear layers and norms of a model."""
    return [node for node in graph.nodes if isinstance(node.kind, Linear | Norm)]


def touched_nodes(plan: Plan) -> list[Node]:
    """The nodes whose parameters a plan changes or removes."""
    nodes: dict[Node, None] = {}
    for edit in plan.edits:
        gone = edit.gone if isinstance(edit, MergeBranches) else ()
        nodes |= dict.fromkeys((edit.node, *gone))
    return list(nodes)


def borders(graph: Graph, plan: Plan) -> tuple[list[Value], list[Value]]:
    """The values, unchanged by the plan, that enter and leave the pieces it changes."""
    changed = {value for region in plan.regions for value in region}
    inputs: dict[Value, None] = {}
    outputs: dict[Value, None] = {}
    for node in graph.nodes:
        touched = [v for v in (*node.inputs, *node.outputs) if v in changed]
        if all(node in value.shape_readers for value in touched):
            continue  # it reads shapes, which no plan changes
        for value in node.inputs:
            if value not in changed and value.constant is None:
                inputs[value] = None
        for value in node.outputs:
            if value not in changed and (value.readers or value.is_output):
                outputs[value] = None
    return list(inputs), list(outputs)
