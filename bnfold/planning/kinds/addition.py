"""A sum hands its scale to every branch and its shift to one of them."""

from __future__ import annotations

import numpy as np

from bnfold.algebra.affine import AffineMap
from bnfold.graph import Node, Value
from bnfold.planning.kinds.walking import Walk
from bnfold.planning.reasons import Reason, Refused


def pull(node: Node, value: Value, amap: AffineMap, walk: Walk) -> None:
    addends = walk.ledger.addends(node)
    if len({branch for branch, _ in addends}) < len(addends):
        raise Refused(Reason.ACROSS_REGIONS, node.label)
    maps = [restricted(node, branch, amap, walk) for branch, _ in addends]
    refusal: Refused | None = None
    for taker in range(1 if amap.has_no_shift else len(addends)):
        attempt = walk.fork(node)
        try:
            for i, (branch, weight) in enumerate(addends):
                whole = AffineMap(maps[i].scale, maps[i].shift / weight)
                attempt.pull(branch, whole if i == taker else maps[i].without_shift(), node)
        except Refused as error:
            refusal = refusal or error
            continue
        walk.join(attempt)
        return
    assert refusal is not None
    raise refusal


def push(node: Node, value: Value, amap: AffineMap, walk: Walk) -> None:
    """Only a shift passes: a scale would have to be on every branch."""
    if not amap.has_unit_scale:
        raise Refused(Reason.UNEQUAL_BRANCHES, node.label)
    out_shapes, in_shapes = walk.graph.shapes(node.outputs[0]), walk.graph.shapes(value)
    if out_shapes is None or in_shapes is None:
        raise Refused(Reason.UNKNOWN_SHAPE, node.outputs[0].name)
    grown = len(out_shapes[0]) - len(in_shapes[0])
    axes = tuple(None if i < grown else i - grown for i in range(len(out_shapes[0])))
    weights = [weight for branch, weight in walk.ledger.addends(node) if branch is value]
    total = amap.with_axes(axes)
    walk.push(node.outputs[0], AffineMap(total.scale, total.shift * sum(weights)))


def restricted(node: Node, branch: Value, amap: AffineMap, walk: Walk) -> AffineMap:
    """The map as one on a branch, which may have fewer axes or broadcast along some."""
    if branch.constant is not None:
        return amap  # a constant may grow
    shapes = walk.graph.shapes(branch)
    if shapes is None:
        raise Refused(Reason.UNKNOWN_SHAPE, branch.name)
    for shape in shapes:
        missing = amap.rank - len(shape)
        if missing < 0:
            raise Refused(Reason.BROADCAST, node.label)
        own = (1,) * missing + shape
        if any(own[axis] == 1 for axis in amap.varies_along):
            raise Refused(Reason.BROADCAST, node.label)
    rank = len(shapes[0])
    offset = amap.rank - rank
    lifted: tuple[int | None, ...] = tuple(i + offset for i in range(rank))
    restricted = amap.with_axes(lifted)
    assert np.prod(restricted.shape) == np.prod(amap.shape)
    return restricted
