"""Weighted sums along one axis carry what does not vary there: attention, and messages between nodes."""

from __future__ import annotations

from bnfold.algebra.affine import AffineMap
from bnfold.graph import Graph, Node, Value
from bnfold.kinds import Mixture
from bnfold.planning.kinds import addition
from bnfold.planning.kinds.walking import Walk
from bnfold.planning.reasons import Reason, Refused


def pull(node: Node, value: Value, amap: AffineMap, walk: Walk) -> None:
    _check(node, amap)
    check_mixed(node, walk.graph)
    mixed = node.inputs[0]
    if mixed in node.inputs[1:]:
        raise Refused(Reason.ACROSS_REGIONS, node.label)
    walk.pull(mixed, addition.restricted(node, mixed, amap, walk), node)


def push(node: Node, value: Value, amap: AffineMap, walk: Walk) -> None:
    if value is not node.inputs[0] or value in node.inputs[1:]:
        raise Refused(Reason.OPAQUE_READER, node.label)
    _check(node, amap)
    check_mixed(node, walk.graph)
    rank = walk.graph.rank(node.outputs[0])
    if rank is None:
        raise Refused(Reason.UNKNOWN_SHAPE, node.outputs[0].name)
    grown = rank - amap.rank
    walk.push(
        node.outputs[0],
        amap.with_axes(tuple(None if i < grown else i - grown for i in range(rank))),
    )


def check_mixed(node: Node, graph: Graph) -> None:
    """That what is mixed has the axis along which it is: a matrix product takes a vector as well, whose
    only axis is summed over.

    Raises:
        Refused: where it has not, or where nobody knows.
    """
    kind, mixed = node.kind, node.inputs[0]
    assert isinstance(kind, Mixture)
    rank = graph.rank(mixed)
    if rank is None:
        raise Refused(Reason.UNKNOWN_SHAPE, mixed.name)
    if rank < max(2, -kind.axis):
        raise Refused(Reason.MIXED_CHANNELS, node.label)


def _check(node: Node, amap: AffineMap) -> None:
    kind = node.kind
    assert isinstance(kind, Mixture)
    if amap.rank < -kind.axis or amap.rank + kind.axis in amap.varies_along:
        raise Refused(Reason.MIXED_CHANNELS, node.label)
    if not kind.sums_to_one and not amap.has_no_shift:
        raise Refused(Reason.SHIFT_BLOCKED, node.label)
