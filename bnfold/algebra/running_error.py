"""Numbers that know how much of them may be rounding.

Running error analysis: every operation hands on a bound on the errors of what it was made of, and adds
its own rounding. Source: Higham, *Accuracy and Stability of Numerical Algorithms*, 2nd ed., section 3.3.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bnfold.algebra.affine import Array

_UNIT = 2.0**-52
_ROUNDINGS = 4  # in a scale of a norm: a sum, a root, a quotient, and one to spare


@dataclass(frozen=True, eq=False)
class Rounded:
    """Float64 numbers, and a bound on how far each may be from what it stands for; of one shape."""

    value: Array
    error: Array

    @classmethod
    def exact(cls, value: Array) -> Rounded:
        return cls(value, np.zeros(value.shape))

    @classmethod
    def computed(cls, value: Array, size: Array | None = None) -> Rounded:
        """What a few operations have made of numbers as large as ``size`` (None: no sum was among them).

        One, its negative and zero are taken for what they are.
        """
        if size is None:
            magnitude = np.abs(value)
            size = np.where((magnitude == 1) | (magnitude == 0), 0.0, magnitude)
        return cls(value, _ROUNDINGS * _UNIT * size)

    def __add__(self, other: Rounded) -> Rounded:
        value = self.value + other.value
        return Rounded(value, self.error + other.error + _UNIT * np.abs(value))

    def __mul__(self, other: Rounded) -> Rounded:
        value = self.value * other.value
        error = np.abs(self.value) * other.error + np.abs(other.value) * self.error
        return Rounded(value, error + _UNIT * np.abs(value))

    def __neg__(self) -> Rounded:
        return Rounded(-self.value, self.error)

    def __getitem__(self, part: slice | NDArray[Any]) -> Rounded:
        return Rounded(self.value[part], self.error[part])

    def inverse(self) -> Rounded:
        value = 1 / self.value
        return Rounded(value, self.error * value**2 + _UNIT * np.abs(value))

    def may_be(self, number: float) -> NDArray[np.bool_]:
        """Where nothing but rounding may lie between the value and ``number``."""
        return np.asarray(np.abs(self.value - number) <= self.error)

    def settled_at(self, number: float) -> Array:
        """The value, and ``number`` itself where it may be that."""
        return np.where(self.may_be(number), number, self.value)
