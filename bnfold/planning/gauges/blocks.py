"""Cells that every law treats in the same way, side by side, are one *block*: one unknown vector.

The channels of a value mostly stand or fall together, and a plan for thousands of layers must not
look at each of them by itself. Where a concatenation, a split or a shuffle takes them apart, blocks
end, down to single cells.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from bnfold.planning.gauges.laws import IDENTITY, Law

_Segment = tuple[tuple[int, ...], int, int]  # first cells, length, place in the law's vectors
_MOST_SWEEPS = 64


@dataclass(frozen=True, eq=False)
class Piece:
    """One law on one block of each of its cells; ``span`` is the part of its vectors."""

    law: Law
    blocks: tuple[int, ...]
    span: slice | NDArray[np.int64]
    length: int


class Blocks:
    """The cut of all cells into blocks.

    Args:
        count: how many cells there are.
        laws: all laws that may ever be asked for.
        marks: cells at which a block has to begin.
    """

    def __init__(self, count: int, laws: Sequence[Law], marks: Iterable[int] = ()) -> None:
        self._segments = {law: _segments(law) for law in laws}
        self._cut = np.zeros(count + 1, bool)
        self._cut[[IDENTITY, IDENTITY + 1, count]] = True
        for mark in marks:
            self._cut[mark] = True
        for _, segments in self._segments.values():
            for starts, length, _ in segments:
                for start in starts:
                    self._cut[[start, start + length]] = True
        self._spread()
        self.starts = np.flatnonzero(self._cut[:-1])
        self.ends = np.append(self.starts[1:], count)
        self._block_at = np.cumsum(self._cut[:-1]) - 1

    def __len__(self) -> int:
        return len(self.starts)

    def of(self, cells: NDArray[np.int64]) -> NDArray[np.int64]:
        """The blocks in which some cells lie."""
        found: NDArray[np.int64] = np.unique(self._block_at[cells])
        return found

    def pieces(self, law: Law) -> Iterator[Piece]:
        """A law, block by block."""
        order, segments = self._segments[law]
        for starts, length, place in segments:
            first = starts[0]
            inner = np.flatnonzero(self._cut[first : first + length])
            for begin, end in zip(inner, [*inner[1:], length], strict=True):
                blocks = tuple(int(self._block_at[start + begin]) for start in starts)
                span = slice(place + begin, place + end)
                found = span if order is None else order[span]
                yield Piece(law, blocks, found, int(end - begin))

    def _spread(self) -> None:
        """Where one side of a law is cut, the other side is, until nothing moves."""
        paired = [
            segment
            for _, segments in self._segments.values()
            for segment in segments
            if len(segment[0]) > 1 and segment[1] > 1
        ]
        for _ in range(_MOST_SWEEPS):
            moved = False
            for starts, length, _ in paired:
                views = [self._cut[start + 1 : start + length] for start in starts]
                union = np.logical_or.reduce(views)
                for view in views:
                    if (view != union).any():
                        view[:] = union
                        moved = True
            if not moved:
                return
            paired.reverse()
        self._cut[:] = True


def _segments(law: Law) -> tuple[NDArray[np.int64] | None, list[_Segment]]:
    """The runs in which all cells of a law count up together, and the order that makes them longest."""
    arrays, order = law.cells, None
    if (arrays[0][1:] < arrays[0][:-1]).any():
        order = np.argsort(arrays[0], kind="stable")
        arrays = tuple(a[order] for a in arrays)
    size = arrays[0].size
    breaks = np.zeros(max(size - 1, 0), bool)
    for array in arrays:
        breaks |= array[1:] - array[:-1] != 1
    places = [0, *(np.flatnonzero(breaks) + 1).tolist(), size]
    runs = [
        (tuple(int(a[begin]) for a in arrays), end - begin, begin)
        for begin, end in pairwise(places)
        if end > begin
    ]
    return order, runs
