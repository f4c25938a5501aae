"""What an exported program computes for somebody: heads that serve training are traced and never read."""

from __future__ import annotations

from torch.fx import Graph, Node

from bnfold.formats.torch.graph.arguments import is_aten_call, operator_of


def live_nodes(graph: Graph) -> set[Node]:
    """The nodes that an output depends on, or a call that does something besides computing a value."""
    waiting = [node for node in graph.nodes if node.op == "output" or _acts(node)]
    found: set[Node] = set()
    while waiting:
        node = waiting.pop()
        if node not in found:
            found.add(node)
            waiting += node.all_input_nodes
    return found


def _acts(node: Node) -> bool:
    """Whether it checks or writes something."""
    if not is_aten_call(node):
        return False
    schema = operator_of(node)._schema
    return bool(schema.is_mutable or not schema.returns)
