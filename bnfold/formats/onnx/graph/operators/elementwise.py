"""Add, Sub, Mul, Div, Neg, Sum, Mean: affine with a constant, else sums or products of computed values."""

from __future__ import annotations

from bnfold.formats.onnx.graph.operators.view import NodeView, Reading, is_float
from bnfold.kinds import Affine, Movement, Product, Sum

# form with the constant on the right, with the constant on the left (None: not affine)
_FORMS: dict[str, tuple[str, str | None]] = {
    "Mul": ("x*c", "x*c"),
    "Div": ("x/c", None),
    "Add": ("x+c", "x+c"),
    "Sub": ("x-c", "c-x"),
}


def read_binary(view: NodeView) -> Reading | None:
    op = view.proto.op_type
    left, right = view.constant(0), view.constant(1)
    if left is None and right is None:
        if _old_broadcast(view):
            return None
        if op in ("Mul", "Div"):
            return Reading(Product(divides=op == "Div"), tuple(view.proto.input))
        return Reading(Sum((1, -1 if op == "Sub" else 1)), tuple(view.proto.input))
    form = _FORMS[op][0 if right is not None else 1]
    constant = right if right is not None else left
    if form is None or constant is None or not is_float(constant.dtype) or _old_broadcast(view):
        return None
    if left is not None and right is not None:
        return None  # all constant: nobody needs to move anything through it
    return Reading(Affine(form, constant), (view.name(0 if right is not None else 1),))


def read_neg(view: NodeView) -> Reading:
    return Reading(Affine("-x", None), (view.name(0),))


def read_sum(view: NodeView) -> Reading:
    """Sum and Mean of any number of values."""
    count = len(view.proto.input)
    if count == 1:
        return Reading(Movement(()), (view.name(0),))
    weight = 1 / count if view.proto.op_type == "Mean" else 1
    return Reading(Sum((weight,) * count), tuple(view.proto.input))


def read_where(view: NodeView) -> Reading | None:
    """A choice between a value and zeros is a product with zeros and ones."""
    zeros = [view.constant(i) for i in (1, 2)]
    known = [c for c in zeros if c is not None]
    if len(known) != 1 or known[0].obstacle or not is_float(known[0].dtype):
        return None
    if known[0].float64().any() or view.constant(0) is not None:
        return None
    if known[0].shape not in ((), (1,)):  # of a higher rank it could raise that of the value
        return None
    return Reading(Product(), (view.name(1 if zeros[0] is None else 2), view.name(0)))


def _old_broadcast(view: NodeView) -> bool:
    """Before opset 7 an attribute decided where the smaller operand lies."""
    return view.opset < 7 and bool(view.attribute("broadcast", 0))


READERS = {
    "Mul": read_binary,
    "Div": read_binary,
    "Add": read_binary,
    "Sub": read_binary,
    "Neg": read_neg,
    "Sum": read_sum,
    "Mean": read_sum,
    "Where": read_where,
}
