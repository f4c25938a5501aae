"""Operators that no single affine map can pass: refused here; `planning.gauges` may still pass some."""

from __future__ import annotations

from typing import NoReturn

from bnfold.algebra.affine import AffineMap
from bnfold.graph import Node, Value
from bnfold.kinds import Opaque
from bnfold.planning.kinds.walking import Walk
from bnfold.planning.reasons import Reason, Refused


def pull(node: Node, value: Value, amap: AffineMap, walk: Walk) -> NoReturn:
    raise _refusal(node, Reason.NONLINEAR_PRODUCER, Reason.OPAQUE_PRODUCER)


def push(node: Node, value: Value, amap: AffineMap, walk: Walk) -> NoReturn:
    raise _refusal(node, Reason.NONLINEAR_READER, Reason.OPAQUE_READER)


def _refusal(node: Node, nonlinear: Reason, otherwise: Reason) -> Refused:
    kind = node.kind
    if not isinstance(kind, Opaque):
        return Refused(nonlinear, node.label)
    if kind.obstacle:
        return Refused(Reason[kind.obstacle.code], kind.obstacle.culprit or node.label)
    return Refused(nonlinear if kind.nonlinear else otherwise, node.label)
