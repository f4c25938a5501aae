"""What a plan does to the network as a whole: which operators go, and the sizes before and after.

Worked out from the neutral graph when a report asks for it, so that a fold without one costs nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import Literal

from bnfold.constants import Shape
from bnfold.graph import Graph, Node, Value
from bnfold.kinds import Affine, Linear, Norm
from bnfold.planning import Plan
from bnfold.planning.decision import Bypass, MergeBranches, Reweight

Role = Literal["linear", "norm", "affine", "other"]


@dataclass(frozen=True)
class Operator:
    """One operator of the original. ``gone``: the fold removes it; ``changed``: it gets new parameters."""

    name: str
    op: str
    role: Role
    gone: bool
    changed: bool


@dataclass(frozen=True)
class Sizes:
    """Of the layers that bnfold knows: linear ones, BatchNorm and affine operations.

    ``flops`` counts a multiplication and an addition as two, for one run on the input of
    `NetworkChange.input_shape`; None where a shape is unknown.
    """

    parameters: int
    flops: int | None


@dataclass(frozen=True, eq=False)
class NetworkChange:
    """A graph and the plan for it."""

    graph: Graph
    plan: Plan

    @property
    def operators(self) -> tuple[Operator, ...]:
        """All of the original's, in the order of the network."""
        gone, changed = self._gone(), {edit.node for edit in self.plan.edits}
        return tuple(
            Operator(n.name, n.op, _role(n), n in gone, n in changed) for n in self.graph.nodes
        )

    @property
    def input_shape(self) -> Shape | None:
        """What the operations are counted for: the first value that no node makes."""
        made = {value for node in self.graph.nodes for value in node.outputs}
        values = (v for n in self.graph.nodes for v in n.inputs)
        first = next((v for v in values if v not in made and v.constant is None), None)
        return None if first is None else self.graph.oracle.shape(first, 0)

    def sizes(self) -> tuple[Sizes, Sizes]:
        """Before and after."""
        gone = self._gone()
        after = {e.node: e for e in self.plan.edits if isinstance(e, Reweight)}
        kept = [n for n in self.graph.nodes if n not in gone]
        return self._sizes(self.graph.nodes, {}), self._sizes(kept, after)

    def _gone(self) -> set[Node]:
        found: set[Node] = set()
        for edit in self.plan.edits:
            if isinstance(edit, Bypass):
                found.add(edit.node)
            elif isinstance(edit, MergeBranches):
                found.update(edit.gone)
        return found

    def _sizes(self, nodes: list[Node], edits: dict[Node, Reweight]) -> Sizes:
        counted = {name: n for node in nodes for name, n in _parameters(node, edits.get(node))}
        work = [self._flops(node, edits.get(node)) for node in nodes]
        known = [each for each in work if each is not None]
        return Sizes(sum(counted.values()), sum(known) if len(known) == len(work) else None)

    def _flops(self, node: Node, edit: Reweight | None) -> int | None:
        if not isinstance(node.kind, Linear | Norm | Affine):
            return 0
        value = _wide_side(node)
        shape = self.graph.oracle.shape(value, 0)
        if shape is None:
            return None
        return prod(shape) * _flops_per_element(edit.kind if edit else node.kind, edit)


def _role(node: Node) -> Role:
    if isinstance(node.kind, Linear):
        return "linear"
    return (
        "norm"
        if isinstance(node.kind, Norm)
        else ("affine" if isinstance(node.kind, Affine) else "other")
    )


def _wide_side(node: Node) -> Value:
    """Where the elements are counted: a transposed convolution works once for each of its inputs."""
    kind = node.kind
    transposed = isinstance(kind, Linear) and kind.geometry is not None and kind.geometry.transposed
    return node.inputs[0] if transposed else node.outputs[0]


def _flops_per_element(kind: Linear | Norm | Affine, edit: Reweight | None) -> int:
    if isinstance(kind, Norm):
        return 2  # as every runtime computes it: one scale, one shift
    if isinstance(kind, Affine):
        return 1
    transposed = kind.geometry is not None and kind.geometry.transposed
    layout = kind.layout
    products = prod(kind.weight.shape) // (layout.inputs if transposed else layout.outputs)
    biased = edit.bias is not None if edit else kind.bias is not None
    return 2 * products + (1 if biased and not transposed else 0)


def _parameters(node: Node, edit: Reweight | None) -> Iterator[tuple[object, int]]:
    """Each tensor of a node once, under a key that two readers of one tensor share."""
    kind = edit.kind if edit else node.kind
    if isinstance(kind, Norm):
        yield node, 4 * kind.channels
    elif isinstance(kind, Affine) and kind.constant is not None:
        yield kind.constant.name or node, prod(kind.constant.shape)
    elif isinstance(kind, Linear):
        yield (node if edit else kind.weight.name or node), prod(kind.weight.shape)
        if edit is not None and edit.bias is not None:
            yield (node, "bias"), edit.bias.size
        elif edit is None and kind.bias is not None:
            yield kind.bias.name or (node, "bias"), prod(kind.bias.shape)
