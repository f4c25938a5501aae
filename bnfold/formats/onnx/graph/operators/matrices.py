"""Gemm and MatMul with one constant operand."""

from __future__ import annotations

from dataclasses import replace

from bnfold.algebra.weights import WeightLayout
from bnfold.constants import Obstacle
from bnfold.formats.onnx.graph.operators.quantisation import in_steps
from bnfold.formats.onnx.graph.operators.view import NodeView, Reading, is_float
from bnfold.kinds import Linear, Mixture, Opaque


def read_gemm(view: NodeView) -> Reading:
    """``alpha * A' B' + beta * C`` with a constant ``B`` and a constant or absent ``C``."""
    weight, bias = view.constant(1), view.constant(2)
    if weight is None or not is_float(weight.dtype) or (view.name(2) and bias is None):
        names = tuple(n for i, n in enumerate(view.proto.input) if n and not view.constant(i))
        return Reading(Opaque(obstacle=Obstacle("COMPUTED_WEIGHT")), names)
    view.require(
        len(weight.shape) == 2, f"has a weight of shape {weight.shape}, which is no matrix"
    )
    out_axis = 0 if view.attribute("transB", 0) else 1
    plain = view.attribute("alpha", 1.0) == 1 and view.attribute("beta", 1.0) == 1
    kind = Linear(
        layout=WeightLayout.matrix(weight.shape, out_axis, 1 - out_axis),
        weight=weight,
        bias=in_steps(view, weight, bias, out_axis) if plain else bias,
        out_axis=1,
        in_axis=0 if view.attribute("transA", 0) else 1,
        rank=2,
        every_tap_everywhere=True,
        weight_factor=float(view.attribute("alpha", 1.0)),
        bias_factor=float(view.attribute("beta", 1.0)),
    )
    return Reading(kind, (view.name(0),))


def read_matmul(view: NodeView) -> Reading | None:
    """``x W`` (channels on the last axis) or ``W x`` (channels on the last but one)."""
    left, right = view.constant(0), view.constant(1)
    if right is not None and left is None and len(right.shape) >= 2 and is_float(right.dtype):
        layout = WeightLayout.matrix(right.shape, -1, -2)
        kind = Linear(layout, right, None, -1, -1, None, every_tap_everywhere=True)
        return Reading(kind, (view.name(0),))
    if left is not None and right is None and len(left.shape) >= 2 and is_float(left.dtype):
        layout = WeightLayout.matrix(left.shape, -2, -1)
        kind = Linear(layout, left, None, -2, -2, None, every_tap_everywhere=True, bias_axis=-2)
        return Reading(kind, (view.name(1),))
    if left is None and right is None:
        if softmax_behind(view, 0, -1):
            return Reading(Mixture(-2, sums_to_one=True), (view.name(1), view.name(0)))
        if softmax_behind(view, 1, -2):
            return Reading(Mixture(-1, sums_to_one=True), (view.name(0), view.name(1)))
        return Reading(Opaque(obstacle=Obstacle("COMPUTED_WEIGHT")), tuple(view.proto.input))
    return None


def softmax_behind(view: NodeView, position: int, axis: int) -> bool:
    """Whether what flows in at ``position`` sums to one along ``axis``: it comes out of a softmax."""
    name = view.name(position)
    owner = view.scope.owner(name)
    proto = None if owner is None else owner.producers.get(name)
    if proto is None or proto.op_type != "Softmax" or proto.domain not in ("", "ai.onnx"):
        return False
    if owner is not view.scope:
        return False
    softmax = replace(view, proto=proto)
    along, rank = int(softmax.attribute("axis", -1 if view.opset >= 13 else 1)), softmax.rank()
    if rank is None or rank < 2:
        return False
    if view.opset < 13:  # all axes from there on are one
        return along % rank == rank - 1 and axis == -1
    return along % rank == rank + axis


READERS = {"Gemm": read_gemm, "MatMul": read_matmul}
