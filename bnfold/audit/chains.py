"""Chains of element-wise operations with constants: what a BatchNorm looks like taken apart."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from bnfold.graph import Graph, Node
from bnfold.kinds import Affine, Norm

_SCALING, _SHIFTING = {"x*c", "x/c"}, {"x+c", "x-c", "c-x"}


@dataclass(frozen=True, eq=False)
class Chain:
    """Neighbouring operations that scale and shift; ``computed`` where a computed norm feeds them."""

    nodes: tuple[Node, ...]
    computed: bool

    @property
    def label(self) -> str:
        return f"{' → '.join(node.op for node in self.nodes)} at '{self.nodes[0].name}'"


def chains(graph: Graph) -> Iterator[Chain]:
    """Every chain that scales and shifts by one constant per channel, in the order of the graph.

    Those behind a BatchNorm are its own scale and shift, as Caffe writes them.
    """
    for node in graph.nodes:
        before = node.inputs[0].producer if _is_link(node) else None
        if not _is_link(node) or _is_link(before) or (before and isinstance(before.kind, Norm)):
            continue
        nodes = [node]
        while (following := _next(nodes[-1])) is not None:
            nodes.append(following)
        forms = {n.kind.form for n in nodes if isinstance(n.kind, Affine)}
        if forms & _SCALING and forms & _SHIFTING:
            yield Chain(tuple(nodes), any(_computed(n) for n in nodes))


def _computed(node: Node) -> bool:
    return isinstance(node.kind, Affine) and node.kind.computed_statistics


def _is_link(node: Node | None) -> bool:
    """Whether it is an affine operation whose constant varies along one axis, as channels do."""
    if node is None or not isinstance(node.kind, Affine) or node.kind.constant is None:
        return False
    return sum(size > 1 for size in node.kind.constant.shape) == 1


def _next(node: Node) -> Node | None:
    readers = node.outputs[0].readers
    return readers[0] if len(readers) == 1 and _is_link(readers[0]) else None
