"""Linear operators absorb a map on their output channels, or on their input channels."""

from __future__ import annotations

from bnfold.algebra.affine import AffineMap
from bnfold.graph import Node, Value
from bnfold.planning.kinds.walking import Walk
from bnfold.planning.reasons import Reason, Refused


def pull(node: Node, value: Value, amap: AffineMap, walk: Walk) -> None:
    kind = walk.ledger.kind(node)
    if kind.activation is not None:
        raise Refused(Reason.NONLINEAR_PRODUCER, node.label)
    vectors = amap.vectors(kind.out_axis, kind.layout.outputs)
    if vectors is None:
        raise Refused(Reason.AXIS_MISMATCH, node.label)
    walk.ledger.absorb_output(node, *vectors)
    walk.absorbed_by(node)


def push(node: Node, value: Value, amap: AffineMap, walk: Walk) -> None:
    kind = walk.ledger.kind(node)
    if value in node.inputs[1:]:
        raise Refused(Reason.OPAQUE_READER, node.label)
    vectors = amap.vectors(kind.in_axis, kind.layout.inputs)
    if vectors is None:
        raise Refused(Reason.AXIS_MISMATCH, node.label)
    walk.ledger.absorb_input(node, *vectors)
    walk.absorbed_by(node)
