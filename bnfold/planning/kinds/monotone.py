"""Maxima carry a map whose scale is not negative."""

from __future__ import annotations

import numpy as np

from bnfold.algebra.affine import AffineMap
from bnfold.graph import Node, Value
from bnfold.kinds import Monotone
from bnfold.planning.kinds.average import after_reduction, before_reduction
from bnfold.planning.kinds.walking import Walk
from bnfold.planning.reasons import Reason, Refused, channels


def pull(node: Node, value: Value, amap: AffineMap, walk: Walk) -> None:
    assert isinstance(node.kind, Monotone)
    _check_scale(node, amap)
    source = before_reduction(node, node.kind.axes, amap, walk)
    walk.pull(node.inputs[0], source, node)


def push(node: Node, value: Value, amap: AffineMap, walk: Walk) -> None:
    assert isinstance(node.kind, Monotone)
    _check_scale(node, amap)
    walk.push(node.outputs[0], after_reduction(node, node.kind.axes, amap))


def _check_scale(node: Node, amap: AffineMap) -> None:
    if (amap.scale < 0).any():
        negative = np.flatnonzero(amap.scale < 0).tolist()
        told = channels(negative, amap.scale.size, "scales are negative")
        raise Refused(Reason.NEGATIVE_SCALE, node.label, told)
