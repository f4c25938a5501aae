"""The first activation at which two models differ: those that both name, in the order of the reference."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Protocol, runtime_checkable

from bnfold.proof.channels import PieceComparison, compare_channels, movement
from bnfold.proof.comparison import is_float
from bnfold.proof.subject import Arrays

_AT_ONCE = 64
# So many values are compared behind the first that differs, spread over what is left.
_BEHIND = 128


@runtime_checkable
class Named(Protocol):
    """A model whose inner values have names."""

    def inner_names(self) -> Sequence[str]:
        """The names of its values in the order in which they are computed."""

    def values(self, feeds: Arrays, names: Sequence[str], draw: int | None = None) -> Arrays:
        """Inner values, for inputs of the whole; with moved parameters where ``draw`` is given."""


def parting(reference: Named, candidate: Named, feeds: Arrays) -> tuple[PieceComparison, ...]:
    """Values up to the first that differs, and of those behind it as many as show how it goes on;
    nothing where none differs.

    Only float values that both models name are compared. Each is held against what rounding does to
    it in the reference.

    Raises:
        RuntimeUnavailableError: where one of them does not run.
    """
    theirs = set(candidate.inner_names())
    shared = [name for name in reference.inner_names() if name in theirs]
    seen: list[PieceComparison] = []
    for part, names in enumerate(_in_parts(shared)):
        seen += _compared(reference, candidate, feeds, names)
        if not all(each.passed for each in seen):
            rest = shared[(part + 1) * _AT_ONCE :]
            step = max(math.ceil(len(rest) / _BEHIND), 1)
            for spread in _in_parts(rest[::step]):
                seen += _compared(reference, candidate, feeds, spread)
            return tuple(seen)
    return ()


def _in_parts(names: Sequence[str]) -> Iterator[Sequence[str]]:
    yield from (names[i : i + _AT_ONCE] for i in range(0, len(names), _AT_ONCE))


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
