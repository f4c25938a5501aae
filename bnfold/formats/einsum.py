"""Einsum of a value and a constant that is a matrix product: one axis summed over, one axis made."""

from __future__ import annotations

from bnfold.algebra.rounding import is_float
from bnfold.algebra.weights import WeightLayout
from bnfold.constants import Constant
from bnfold.kinds import Linear


def einsum_layer(equation: str, flow: int, rank: int | None, weight: Constant) -> Linear | None:
    """The layer that an equation of two operands is, None where it is no matrix product.

    It is none where several axes are summed over or made, where an axis of the value alone is summed over,
    where some are left to an ellipsis, and where the axes that stay change places (two products of the
    same channels would not be the same operator then).

    Args:
        equation: as NumPy has it.
        flow: at which position the value stands; the constant is the other one.
        rank: of the value, None where it is not known.
        weight: the constant.
    """
    axes = _letters(equation, flow)
    if axes is None or not is_float(weight.dtype):
        return None
    value, made, result, summed, new = axes
    if (len(value), len(made)) != (rank, len(weight.shape)):
        return None
    # A size of 1 is broadcast, and then summed over as often as the other operand is long.
    if weight.shape[made.index(summed)] == 1:
        return None
    return Linear(
        layout=WeightLayout.matrix(weight.shape, made.index(new), made.index(summed)),
        weight=weight,
        bias=None,
        out_axis=result.index(new),
        in_axis=value.index(summed),
        rank=len(result),
        every_tap_everywhere=True,
        bias_axis=result.index(new) - len(result),
    )


def _letters(equation: str, flow: int) -> tuple[str, str, str, str, str] | None:
    """The axes of value, constant and result; the one that is summed over, and the one that is made."""
    operands, arrow, result = equation.replace(" ", "").partition("->")
    terms, letters = operands.split(","), operands.replace(",", "")
    if len(terms) != 2 or not (letters + result).isalpha():
        return None
    if not arrow:
        result = "".join(sorted(c for c in set(letters) if letters.count(c) == 1))
    value, constant = terms[flow], terms[1 - flow]
    if any(len(set(term)) < len(term) for term in (value, constant, result)):
        return None
    summed = [c for c in value if c in constant and c not in result]
    new = [c for c in constant if c not in value]
    if len(summed) != 1 or len(new) != 1 or new[0] not in result:
        return None
    if value.replace(summed[0], "") != result.replace(new[0], ""):
        return None
    return value, constant, result, summed[0], new[0]
