"""Which sizes the dynamic axes are given: two assignments that differ, and that the model takes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol, TypeVar

# For the first axis (the batch) and for any other dynamic axis.
Sizes = tuple[int, int]
# Tried in turn.
SIZES: tuple[Sizes, ...] = (
    (2, 64),
    (3, 80),
    (4, 96),
    (3, 32),
    (2, 224),
    (4, 256),
    (8, 128),
    (1, 16),
    (2, 8),
)
# Comparisons try an odd size as well, where the model takes one: what depends on divisibility shows.
INPUT_SIZES = (SIZES[0], (3, 77), *SIZES[1:])
# Where nothing but the batch is dynamic, few samples are enough.
BATCH_SIZES = (SIZES[0], (1, 64), *SIZES[1:])


class Assigned(Protocol):
    """What follows from an assignment of sizes."""

    contradicts: bool

    @property
    def complete(self) -> bool:
        """Whether every output has a shape."""


A = TypeVar("A", bound=Assigned)


def choose(attempt: Callable[[Sizes], A], static: bool) -> list[A]:
    """Two assignments that differ in every dynamic axis, complete ones if there are such.

    What the model does not take is none, unless there is nothing else. Where it takes one size only,
    or one batch only, the two differ in the other, if the model takes that.
    """
    if static:
        return [attempt(SIZES[0])]
    found: dict[Sizes, A] = {}
    spare: dict[Sizes, A] = {}
    wrong: dict[Sizes, A] = {}
    for sizes in SIZES:
        if _differs(sizes, found):
            result = attempt(sizes)
            (wrong if result.contradicts else found if result.complete else spare)[sizes] = result
        if len(found) == 2:
            break
    _fill(found, spare)
    if len(found) == 1:
        _vary(found, attempt)
    if not found:
        _fill(found, wrong)
    return list(found.values())


def _differs(sizes: Sizes, others: Iterable[Sizes]) -> bool:
    return all(a != b for other in others for a, b in zip(other, sizes, strict=True))


def _fill(found: dict[Sizes, A], spare: dict[Sizes, A]) -> None:
    for sizes, result in spare.items():
        if len(found) < 2 and _differs(sizes, found):
            found[sizes] = result


def _vary(found: dict[Sizes, A], attempt: Callable[[Sizes], A]) -> None:
    """A second assignment beside the only one that the model takes."""
    ((batch, other),) = found
    for sizes in ((batch + 1, 2 * other), (batch + 1, other), (batch, 2 * other)):
        result = attempt(sizes)
        if not result.contradicts:
            found[sizes] = result
            return
