"""Bounds on rounding hold, measured against exact fractions; and they are not so wide that all is equal."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from bnfold.algebra.running_error import Rounded

numbers = st.floats(0.001, 1000).flatmap(lambda x: st.sampled_from((x, -x)))
steps = st.lists(st.tuples(st.sampled_from("+*/"), numbers), min_size=1, max_size=12)


@given(numbers, steps)
def test_the_bound_holds(start: float, taken: list[tuple[str, float]]) -> None:
    found, true = Rounded.exact(np.array([start])), Fraction(start)
    for operation, number in taken:
        other = Rounded.exact(np.array([number]))
        if operation == "+":
            found, true = found + other, true + Fraction(number)
        elif operation == "*":
            found, true = found * other, true * Fraction(number)
        else:
            found, true = found * other.inverse(), true / Fraction(number)
    assert abs(Fraction(float(found.value[0])) - true) <= Fraction(float(found.error[0]))


def test_what_cancels_is_told_from_what_is_small() -> None:
    """0.1 + 0.2 - 0.3 is nothing but rounding; a difference a hundred times as large is none."""
    third = [Rounded.computed(np.array([x])) for x in (0.1, 0.2, -0.3, -0.3 - 5e-15)]
    assert (third[0] + third[1] + third[2]).may_be(0).all()
    assert (third[0] + third[1] + third[2]).settled_at(0).tolist() == [0.0]
    assert not (third[0] + third[1] + third[3]).may_be(0).any()
    assert not Rounded.exact(np.array([1e-300])).may_be(0).any()
