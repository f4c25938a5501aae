"""Values that a network rounds to whole steps: where rounding decides, two runs agree to one step.

A value that lies between two steps may be rounded up by one model and down by the other, however
little they differ before. What that can do to the outputs is measured: in the original, everything
that is about to be rounded is moved by up to half a step, so that any of it may come out one step off.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from bnfold.proof.subject import Arrays

_DRAWS = 2


@runtime_checkable
class Stepped(Protocol):
    """A model of which it is known where it rounds."""

    def stepped(self, feeds: Arrays, draw: int) -> Arrays | None:
        """The outputs where every value that is rounded may be one step off, a different pattern for
        each ``draw``; None where nothing is rounded, or where that cannot be had."""


def agree_to_a_step(
    reference: object, feeds: Arrays, a: Arrays, b: Arrays, names: Sequence[str]
) -> bool:
    """Whether outputs of these names differ by no more than a step here and there explains.

    Args:
        reference: the original.
        feeds: what both were given.
        a: outputs of the original.
        b: outputs to compare with them.
        names: which.
    """
    if not isinstance(reference, Stepped):
        return False
    moved = [run for draw in range(_DRAWS) if (run := reference.stepped(feeds, draw)) is not None]
    return bool(moved) and all(
        _distance(a[name], b[name]) <= max(_distance(a[name], each[name]) for each in moved)
        for name in names
    )


def _distance(a: NDArray[np.generic], b: NDArray[np.generic]) -> float:
    """The largest difference; infinite where NaN or an infinity stands in one of both only."""
    if a.shape != b.shape or a.dtype == object or b.dtype == object:
        return float(np.inf)
    x, y = a.astype(np.float64), b.astype(np.float64)
    with np.errstate(all="ignore"):
        same = (x == y) | (np.isnan(x) & np.isnan(y))
        error = np.where(same, 0.0, np.abs(x - y))
    return float(np.where(np.isnan(error), np.inf, error).max(initial=0.0))
