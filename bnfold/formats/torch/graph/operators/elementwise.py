"""add, sub, mul, div, neg and their kin: affine with a constant, else a sum or a product."""

from __future__ import annotations

from dataclasses import replace
from math import isfinite

import numpy as np

from bnfold.constants import Constant
from bnfold.formats.torch.graph.constants import scalar_constant
from bnfold.formats.torch.graph.operators.view import CallView, Reading, is_float
from bnfold.kinds import Affine, Movement, Product, Sum

# form with the constant as ``other``, with the constant as ``self`` (None: not affine)
_FORMS: dict[str, tuple[str, str | None]] = {
    "mul": ("x*c", "x*c"),
    "div": ("x/c", None),
    "add": ("x+c", "x+c"),
    "sub": ("x-c", "c-x"),
    "rsub": ("c-x", "x-c"),
}
_SAME = {"multiply": "mul", "divide": "div", "true_divide": "div", "subtract": "sub"}


def read_binary(view: CallView) -> Reading | None:
    op = _SAME.get(view.op, view.op)
    if view.get("rounding_mode") is not None:
        return None
    left, right = _operand(view, "self"), _operand(view, "other")
    if left is not None and right is not None:
        return None
    if left is None and right is None:
        return _computed(view, op) if view.tensor("self") and view.tensor("other") else None
    flow = "other" if left is not None else "self"
    form = _FORMS[op][0 if left is None else 1]
    constant = left if left is not None else right
    if form is None or constant is None or not _keeps_type(view, flow):
        return None
    scaled = _scaled(view, constant, flow)
    return None if scaled is None else Reading(Affine(form, scaled), (view.flow(flow),))


def _operand(view: CallView, name: str) -> Constant | None:
    """The constant operand, a plain number included."""
    if view.is_plain(name) and not isinstance(view.get(name), bool) and view.result is not None:
        return scalar_constant(view.get(name), view.result)
    constant = view.constant(name)
    return constant if constant is None or is_float(constant.dtype) else None


def _keeps_type(view: CallView, *names: str) -> bool:
    """Type promotion would make it more than an affine map; integers are none."""
    result = view.result
    return (
        result is not None
        and result.dtype.is_floating_point
        and all(view.fake(name).dtype == result.dtype for name in names)
    )


def _scaled(view: CallView, constant: Constant, flow: str) -> Constant | None:
    """The constant times ``alpha``, which torch applies to the second operand."""
    alpha = view.get("alpha", 1)
    if alpha == 1:
        return constant
    # rsub multiplies self, everything else multiplies other; a factor on the flow is another map.
    on_flow = (flow == "self") if view.op == "rsub" else (flow == "other")
    if on_flow or not isinstance(alpha, int | float):
        return None
    load = constant.load
    return replace(
        constant, load=lambda: np.asarray(load().astype(np.float64) * alpha, constant.dtype)
    )


def _computed(view: CallView, op: str) -> Reading | None:
    """A sum or a product of two computed values."""
    if op not in ("mul", "div"):
        return _sum(view, op)
    if not _keeps_type(view, "self", "other"):
        return None
    return Reading(Product(divides=op == "div"), (view.flow("self"), view.flow("other")))


def _sum(view: CallView, op: str) -> Reading | None:
    alpha = view.get("alpha", 1)
    if op not in ("add", "sub", "rsub") or not isinstance(alpha, int | float):
        return None
    if not isfinite(alpha) or alpha == 0:
        return None
    if not _keeps_type(view, "self", "other"):
        return None
    weights = {"add": (1, alpha), "sub": (1, -alpha), "rsub": (-alpha, 1)}[op]
    return Reading(Sum(weights), (view.flow("self"), view.flow("other")))


def read_neg(view: CallView) -> Reading:
    return Reading(Affine("-x", None), (view.flow("self"),))


def read_positive(view: CallView) -> Reading:
    return Reading(Movement(()), (view.flow("self"),))


READERS = {
    **dict.fromkeys((*_FORMS, *_SAME), read_binary),
    "neg": read_neg,
    "negative": read_neg,
    "positive": read_positive,
}
