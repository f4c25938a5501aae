"""Comparing a written file whose pieces cannot be cut out of it, by the values that it names.

A program that another exporter has written anew is such a file. What its operators compute is
compared value by value where the file still names it as the program does. Stored tensors are
compared bit for bit elsewhere; here a wrong operator or attribute is looked for, so that a share of
the value's range is the yardstick: two runtimes sum in different orders.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bnfold.algebra.rounding import is_half
from bnfold.proof.channels import PieceComparison
from bnfold.proof.comparison import CAP, HALF_CAP, is_float
from bnfold.proof.pieces import NOTHING
from bnfold.proof.subject import Arrays, Exported, Fold, Leaving

EXPORTED = "exported"
_AT_ONCE = 64


def compare_exported(
    fold: Fold, written: Exported, leaving: Sequence[Leaving], feeds: Arrays, outputs: Sequence[str]
) -> tuple[PieceComparison, ...]:
    """The values that the written file names, beside the original's: those that leave a piece, and
    of the others those that are wrong.

    Args:
        fold: the original.
        written: the file.
        leaving: what leaves the changed pieces.
        feeds: inputs of the whole network.
        outputs: of the whole network: they alone can show a piece whose value has no name any more.

    Raises:
        RuntimeUnavailableError: where one of them does not run.
    """
    shown = {each.value: each.shown for each in leaving}
    names = list(written.names)
    found: list[PieceComparison] = []
    for start in range(0, len(names), _AT_ONCE):
        found += _compared(fold, written, names[start : start + _AT_ONCE], feeds)
    told = (each for each in found if not each.passed or each.name in shown)
    missing = (name for value, name in shown.items() if value not in written.names)
    seen = frozenset(outputs)
    return (
        *(replace(each, name=shown.get(each.name, each.name)) for each in told),
        *(
            PieceComparison(n, 0, 0.0, 0.0, 0.0, NOTHING, False, True, seen_in=seen)
            for n in missing
        ),
    )


def _compared(
    fold: Fold, written: Exported, names: Sequence[str], feeds: Arrays
) -> Iterator[PieceComparison]:
    ours = fold.values(feeds, names)
    theirs = written.values(feeds, [written.names[name] for name in names])
    for name in names:
        yield _one(name, ours[name], theirs[written.names[name]])


def _one(name: str, a: NDArray[Any], b: NDArray[Any]) -> PieceComparison:
    if a.shape != b.shape:
        return PieceComparison(name, 0, np.inf, 0.0, np.inf, EXPORTED, True, False)
    if not is_float(a) or not is_float(b):
        same = bool(np.array_equal(a, b))
        error = 0.0 if same else np.inf
        return PieceComparison(name, 0, error, 0.0, error, EXPORTED, bool(a.size), same)
    wide, other = a.astype(np.float64), b.astype(np.float64)
    finite = np.isfinite(wide)
    if not np.array_equal(finite, np.isfinite(other)):
        return PieceComparison(name, 0, np.inf, 0.0, np.inf, EXPORTED, True, False)
    error = float(np.abs(wide[finite] - other[finite]).max(initial=0.0))
    bound = (HALF_CAP if is_half(a.dtype) else CAP) * float(np.abs(wide[finite]).max(initial=0.0))
    ratio = error / bound if bound else (np.inf if error else 0.0)
    return PieceComparison(name, 0, error, bound, ratio, EXPORTED, bool(finite.any()), ratio <= 1)
