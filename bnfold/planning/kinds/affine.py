"""Element-wise operations with a constant: sources like a norm, and absorbers where they stay."""

from __future__ import annotations

import numpy as np

from bnfold.algebra.affine import AffineMap, Array
from bnfold.constants import Constant, Shape
from bnfold.graph import Graph, Node, Value
from bnfold.kinds import Affine
from bnfold.planning.kinds.walking import Walk
from bnfold.planning.ledger import ConstantState, Ledger, check_vector
from bnfold.planning.reasons import Reason, Refused


def current_map(node: Node, rank: int, ledger: Ledger) -> AffineMap:
    """The node as a map on a value of ``rank``, with all that it has absorbed so far.

    Raises:
        Refused: where its constant has more axes than the value.
    """
    kind = node.kind
    assert isinstance(kind, Affine)
    state = ledger.get(node)
    if isinstance(state, ConstantState):
        kind = Affine(kind.form, _replaced(kind.constant, state.array))
    amap = kind.map(rank)
    if amap is None:
        raise Refused(Reason.BROADCAST, node.label)
    return amap


def check_constant(array: Array, like: Constant, node: Node) -> None:
    """Raises `Refused` where new constant elements do not survive in the type of ``like``."""
    check_vector(array, like.dtype, node.label)


def check_fixed(constant: Constant) -> None:
    """Raises `Refused` where a constant may turn out to be another one."""
    if constant.obstacle:
        raise Refused(Reason[constant.obstacle.code], constant.obstacle.culprit)


def pull(node: Node, value: Value, amap: AffineMap, walk: Walk) -> None:
    kind = node.kind
    assert isinstance(kind, Affine)
    before = current_map(node, amap.rank, walk.ledger)
    refuse_growth(node, before, walk.graph)
    refuse_misfit(node, amap, before.shape)
    if kind.form == "-x":
        walk.pull(node.inputs[0], AffineMap(amap.scale, -amap.shift), node)
    elif kind.form in ("x*c", "x/c"):
        if not amap.has_no_shift:
            raise Refused(Reason.OPAQUE_PRODUCER, node.label)
        if walk.merging:
            become(node, before.then(amap), walk)
        else:
            walk.pull(node.inputs[0], amap, node)
    else:  # the constant takes its part of scale and shift, the value takes the scale
        if amap.has_unit_scale and not walk.merging:
            raise Refused(Reason.OPAQUE_PRODUCER, node.label)
        walk.pull(node.inputs[0], amap.without_shift(), node)
        signed = AffineMap(before.scale, amap.scale * before.shift + amap.shift)
        become(node, signed, walk)


def push(node: Node, value: Value, amap: AffineMap, walk: Walk) -> None:
    kind = node.kind
    assert isinstance(kind, Affine)
    after = current_map(node, amap.rank, walk.ledger)
    refuse_growth(node, after, walk.graph)
    refuse_misfit(node, amap, after.shape)
    scales = kind.form in ("x*c", "x/c")
    fits = amap.has_no_shift if scales else kind.constant is not None and amap.has_unit_scale
    if walk.merging and fits:
        become(node, amap.then(after), walk)
    else:
        if kind.constant is not None and not (scales and amap.has_no_shift):
            check_fixed(kind.constant)
        # a(s x + t) + b = s (a x + b) + (a t + b - s b)
        shift = after.scale * amap.shift + after.shift - amap.scale * after.shift
        walk.push(node.outputs[0], AffineMap(amap.scale, shift))


def refuse_growth(node: Node, own: AffineMap, graph: Graph) -> None:
    """A constant that broadcasts the value to a larger one, or of higher rank, is no map on it."""
    kind = node.kind
    assert isinstance(kind, Affine)
    if kind.constant is None:
        return
    if all(size == 1 for size in own.shape):
        if len(kind.constant.shape) >= own.rank > 0:
            _refuse_higher_rank(node, own, graph)
        return
    shapes = graph.shapes(node.inputs[0])
    if shapes is None:
        raise Refused(Reason.UNKNOWN_SHAPE, node.inputs[0].name)
    for shape in shapes:
        if len(shape) != own.rank or not own.fits(shape):
            raise Refused(Reason.BROADCAST, node.label)


def _refuse_higher_rank(node: Node, own: AffineMap, graph: Graph) -> None:
    rank = graph.rank(node.inputs[0])
    if rank is None:
        raise Refused(Reason.UNKNOWN_SHAPE, node.inputs[0].name)
    if rank != own.rank:
        raise Refused(Reason.BROADCAST, node.label)


def refuse_misfit(node: Node, amap: AffineMap, own: Shape) -> None:
    """A map whose sizes are not those of a constant of shape ``own`` cannot be put into it."""
    if not amap.agrees(own):
        raise Refused(Reason.AXIS_MISMATCH, node.label)


def become(node: Node, new: AffineMap, walk: Walk) -> None:
    """Gives the node the constant with which it computes ``new``.

    Raises:
        Refused: where that constant must not change, or does not survive in its number type.
    """
    kind = node.kind
    assert isinstance(kind, Affine) and kind.constant is not None
    check_fixed(kind.constant)
    with np.errstate(all="ignore"):
        array: Array = {
            "x*c": new.scale,
            "x/c": 1.0 / new.scale,
            "x+c": new.shift,
            "x-c": -new.shift,
            "c-x": new.shift,
        }[kind.form]
    check_constant(array, kind.constant, node)
    walk.ledger.put(node, ConstantState(array))
    walk.absorbed_by(node)


def _replaced(constant: Constant | None, array: Array) -> Constant:
    assert constant is not None
    return Constant(constant.name, array.shape, constant.dtype, lambda: array)
