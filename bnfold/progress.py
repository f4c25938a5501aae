"""How long work says what it does."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")

Progress = Callable[[str, int, int], None]
"""Called with the stage, and how much of how much is done: 0 of 1 where nobody knows how much."""


def no_progress(stage: str, done: int, total: int) -> None:
    """The default of a progress callback: nobody watches."""


def told(progress: Progress, stage: str, items: Sequence[T]) -> Iterator[T]:
    """``items``, each reported when it is asked for and the last one when it is done."""
    for done, item in enumerate(items):
        progress(stage, done, len(items))
        yield item
    if items:
        progress(stage, len(items), len(items))


def of_part(progress: Progress, name: str) -> Progress:
    """``progress`` for a part of the work, which is named."""
    return lambda stage, done, total: progress(f"{name}: {stage}", done, total)
