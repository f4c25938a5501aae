"""Regions: the subgraphs that a fold changes, each a set of changed values with the nodes around them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from bnfold.graph import Graph, Node, Value
from bnfold.kinds import Homogeneous, Linear, Mixture, Monotone, Movement, Norm, Opaque, Product
from bnfold.planning.decision import MergeBranches, Plan, Requantise
from bnfold.planning.groups import Groups


@dataclass(frozen=True, eq=False)
class Region:
    """Values whose meaning a plan changes together, and all nodes that compute or read them.

    What enters it and what leaves it means the same in both models. ``nodes`` are in graph order.
    ``inner`` are values that do not change and are computed inside all the same, as a layer in there
    relies on what they are: on weights that sum to one.
    """

    nodes: tuple[Node, ...]
    changed: frozenset[Value]
    inner: frozenset[Value] = frozenset()

    @property
    def hidden(self) -> frozenset[Value]:
        """The values that neither enter nor leave it by themselves."""
        return self.changed | self.inner

    @property
    def scope(self) -> int:
        """The body that it lies in, 0 for the main graph."""
        return self.nodes[0].scope

    @property
    def outputs(self) -> tuple[Value, ...]:
        """The values that leave it, each read by somebody. What the network returns leaves it, and
        what an unknown operator reads or makes, whatever a plan says of them."""
        own = (node for node in self.nodes if not self.inner.intersection(node.outputs))
        made = ((value, node) for node in own for value in node.outputs)
        return tuple(v for v, node in made if v.is_output or (v.readers and self._leaves(v, node)))

    def _leaves(self, value: Value, maker: Node) -> bool:
        around = (maker, *value.readers)
        return value not in self.changed or any(isinstance(n.kind, Opaque) for n in around)

    @property
    def hides(self) -> bool:
        """Whether a changed value goes through an operator that may show only a part of it, as a
        rectifier does: some values that enter it never reach what leaves it."""
        inner = (n for n in self.nodes if any(v in self.changed for v in n.inputs))
        return any(isinstance(n.kind, Homogeneous | Monotone | Product) for n in inner)


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


def rounded_biases(plan: Plan) -> list[Node]:
    """The layers whose bias a plan keeps in whole steps of what they add up."""
    edits = (edit for edit in plan.edits if isinstance(edit, Requantise))
    return [
        e.node for e in edits if isinstance(e.node.kind, Linear) and e.constant is e.node.kind.bias
    ]


def regions_of(graph: Graph, plan: Plan) -> list[Region]:
    """The regions of a plan: changed values that some node sees together belong together.

    A node that an edit touches without changing any value (an identity that goes) is a region of
    its own, so that nothing that was edited stays unproved.
    """
    changed = {value for region in plan.regions for value in region}
    touching = {node: values for node in graph.nodes if (values := _touched(node, changed))}
    groups = Groups()
    for values in touching.values():
        groups.join(values)
    members: dict[Value, list[Node]] = {}
    for node, values in touching.items():
        members.setdefault(groups.head(values[0]), []).append(node)
    inside: dict[Value, set[Value]] = {}
    for value in changed:
        inside.setdefault(groups.head(value), set()).add(value)
    found = [_region(graph, nodes, inside[head]) for head, nodes in members.items()]
    alone = set(touched_nodes(plan)) - set(touching)
    found += [Region((node,), frozenset()) for node in graph.nodes if node in alone]
    return found


def _region(graph: Graph, nodes: list[Node], changed: set[Value]) -> Region:
    makers = {maker for node in nodes for maker in _makers_of_weights(node)} - set(nodes)
    if not makers:
        return Region(tuple(nodes), frozenset(changed))
    inner = frozenset(value for maker in makers for value in maker.outputs)
    every = makers.union(nodes)
    return Region(tuple(n for n in graph.nodes if n in every), frozenset(changed), inner)


def _makers_of_weights(node: Node) -> Iterator[Node]:
    """What makes the weights of a mixture: back to the softmax, or to the zeros that are added to."""
    if not isinstance(node.kind, Mixture):
        return
    for value in node.inputs[1:]:
        maker = value.producer
        while maker is not None and maker.scope == node.scope:
            yield maker
            moves = isinstance(maker.kind, Movement) and maker.inputs
            maker = maker.inputs[0].producer if moves else None


def _touched(node: Node, changed: set[Value]) -> list[Value]:
    """The changed values that a node computes, or whose elements it reads."""

    def seen() -> Iterator[Value]:
        for value in node.outputs:
            if value in changed:
                yield value
        for value in node.inputs:
            if value in changed and node in value.readers:
                yield value

    return list(seen())


def channel_axis(value: Value) -> int:
    """Which axis of a value holds the channels: as its producer has them, else the second."""
    node = value.producer
    if node is not None and isinstance(node.kind, Norm):
        return node.kind.axis
    if node is not None and isinstance(node.kind, Linear):
        return node.kind.out_axis
    return 1
