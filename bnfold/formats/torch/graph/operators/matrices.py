"""Matrix products with one constant operand."""

from __future__ import annotations

from bnfold.algebra.weights import WeightLayout
from bnfold.formats.einsum import einsum_layer
from bnfold.formats.torch.graph.arguments import value_of
from bnfold.formats.torch.graph.operators.convolutions import computed_weight
from bnfold.formats.torch.graph.operators.mixtures import attention
from bnfold.formats.torch.graph.operators.view import CallView, Reading, is_float
from bnfold.kinds import Linear


def read_linear(view: CallView) -> Reading | None:
    """``x W^T + b`` with ``W`` of shape ``(out, in)``; channels on the last axis."""
    weight, bias = view.constant("weight"), view.constant("bias")
    computed_bias = view.tensor("bias") is not None and bias is None
    if weight is None or computed_bias or not is_float(weight.dtype):
        return computed_weight(view, "input", "weight", "bias")
    if len(weight.shape) != 2:
        return None
    kind = Linear(
        WeightLayout.matrix(weight.shape, 0, 1),
        weight,
        bias,
        out_axis=-1,
        in_axis=-1,
        rank=view.fake("input").ndim,
        every_tap_everywhere=True,
    )
    return Reading(kind, (view.flow("input"),))


def read_addmm(view: CallView) -> Reading | None:
    """``beta * self + alpha * (mat1 @ mat2)`` with constant ``self`` and ``mat2``."""
    weight, bias = view.constant("mat2"), view.constant("self")
    if weight is None or bias is None or not is_float(weight.dtype):
        return computed_weight(view, "self", "mat1", "mat2")
    if not view.is_plain("alpha") or not view.is_plain("beta"):
        return None
    kind = Linear(
        WeightLayout.matrix(weight.shape, 1, 0),
        weight,
        bias,
        out_axis=1,
        in_axis=1,
        rank=2,
        every_tap_everywhere=True,
        weight_factor=float(view.get("alpha")),
        bias_factor=float(view.get("beta")),
    )
    return Reading(kind, (view.flow("mat1"),))


def read_product(view: CallView) -> Reading | None:
    """matmul, mm, bmm: ``x W`` (channels last) or ``W x`` (channels last but one)."""
    left_name, right_name = ("self", "other") if view.op == "matmul" else ("self", "mat2")
    left, right = view.constant(left_name), view.constant(right_name)
    if (left is None) == (right is None):
        if left is not None:
            return None
        mixed = attention(view, left_name, right_name)
        return mixed or computed_weight(view, left_name, right_name)
    weight = left if right is None else right
    assert weight is not None
    flow = view.flow(right_name if right is None else left_name)
    flowing: int = view.fake(right_name if right is None else left_name).ndim
    if len(weight.shape) < 2 or flowing < 2 or not is_float(weight.dtype):
        return None
    out, into = (-1, -2) if left is None else (-2, -1)
    kind = Linear(
        WeightLayout.matrix(weight.shape, out, into),
        weight,
        None,
        out_axis=out,
        in_axis=out,
        rank=None,
        every_tap_everywhere=True,
        bias_axis=out,
    )
    return Reading(kind, (flow,))


def read_einsum(view: CallView) -> Reading | None:
    """A product of two operands where the equation says no more than that."""
    tensors = view.get("tensors")
    known = [view.constants.find(t) for t in tensors]
    if len(known) != 2 or (known[0] is None) == (known[1] is None):
        return None
    flow = 0 if known[0] is None else 1
    weight = known[1 - flow]
    assert weight is not None
    kind = einsum_layer(view.get("equation"), flow, value_of(tensors[flow]).ndim, weight)
    return None if kind is None else Reading(kind, (tensors[flow],))


READERS = {
    "einsum": read_einsum,
    "linear": read_linear,
    "addmm": read_addmm,
    "matmul": read_product,
    "mm": read_product,
    "bmm": read_product,
}
