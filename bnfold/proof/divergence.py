"""The first activation at which two models differ: those that both name, in the order of the reference."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from bnfold.proof.channels import PieceComparison, compare_channels, movement
from bnfold.proof.comparison import is_float
from bnfold.proof.subject import Arrays

_BEFORE, _ROWS = 2, 6
_AT_ONCE = 64


@runtime_checkable
class Named(Protocol):
    """A model whose inner values have names."""

    def inner_names(self) -> Sequence[str]:
        """The names of its values in the order in which they are computed."""

    def values(self, feeds: Arrays, names: Sequence[str], draw: int | None = None) -> Arrays:
        """Inner values, for inputs of the whole; with moved parameters where ``draw`` is given."""


def parting(reference: Named, candidate: Named, feeds: Arrays) -> tuple[PieceComparison, ...]:
    """The first value that differs, a few before it and behind it; nothing where none differs.

    Only float values of the same shape that both models name are compared. Each is held against
    what rounding does to it in the reference.

    Raises:
        RuntimeUnavailableError: where one of them does not run.
    """
    theirs = set(candidate.inner_names())
    shared = [name for name in reference.inner_names() if name in theirs]
    seen: list[PieceComparison] = []
    for start in range(0, len(shared), _AT_ONCE):
        seen += _compared(reference, candidate, feeds, shared[start : start + _AT_ONCE])
        wrong = next((i for i, each in enumerate(seen) if not each.passed), None)
        if wrong is not None:
            return tuple(seen[max(wrong - _BEFORE, 0) : wrong + _ROWS - _BEFORE])
    return ()


def _compared(
    reference: Named, candidate: Named, feeds: Arrays, names: Sequence[str]
) -> list[PieceComparison]:
    ours, theirs = reference.values(feeds, names), candidate.values(feeds, names)
    moved = [reference.values(feeds, names, draw) for draw in range(2)]
    return [
        compare_channels(
            name,
            ours[name],
            theirs[name],
            movement(ours[name], [m[name] for m in moved], 1),
            1,
            "activations",
        )
        for name in names
        if is_float(ours[name]) and is_float(theirs[name])
    ]
