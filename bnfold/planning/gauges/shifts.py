"""The shifts of all blocks: a system of linear equations, kept solved while laws are added.

Every law is a row with very few unknowns. A new one is reduced by the rows before it; what is left
names a new pivot, or has to be 0 = 0, to within the rounding of the elimination itself. The pivot is
the unknown that fewest laws speak of: mostly the output of a layer that only this sum reads, so that
rows stay short along a trunk of any length.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from bnfold.algebra.affine import Array
from bnfold.algebra.running_error import Rounded
from bnfold.graph import Node
from bnfold.planning.gauges.conflicts import Clash, Conflict


@dataclass(frozen=True, eq=False)
class _Row:
    """``δ[pivot] = offset + sum(factor * δ[unknown])``; ``nodes`` are those whose laws made it so."""

    offset: Rounded
    terms: dict[int, Rounded]
    nodes: tuple[Node, ...]


class Shifts:
    """Every change can be taken back to a `mark`.

    Args:
        lengths: how many cells each block has.
        weights: how many laws speak of each block.
    """

    def __init__(self, lengths: list[int], weights: list[int]) -> None:
        self._lengths = lengths
        self._weights = weights
        self._rows: dict[int, _Row] = {}
        self._undo: list[Callable[[], None]] = []
        self.is_strict = False  # whether it asked more than the laws do

    def mark(self) -> int:
        return len(self._undo)

    def back_to(self, mark: int) -> None:
        while len(self._undo) > mark:
            self._undo.pop()()

    def add(self, terms: dict[int, Rounded], offset: Rounded, node: Node) -> None:
        """``sum(factor * δ[block]) = offset``.

        Raises:
            Conflict: where that contradicts what holds.
        """
        found = self._reduced(_Row(-offset, dict(terms), (node,)))
        left = {b: f for b, f in found.terms.items() if not f.may_be(0).all()}
        if not left:
            wrong = ~found.offset.may_be(0)
            if wrong.any():
                raise Conflict(Clash.SHIFT, wrong, found.nodes)
            return
        whole = [b for b, f in left.items() if not f.may_be(0).any()]
        if not whole:  # no unknown stands in all channels: the block would have to be cut
            if not found.offset.may_be(0).all():
                raise Conflict(Clash.UNDECIDED, np.ones_like(offset.value, bool), found.nodes)
            self._forget(left, found.nodes)
            return
        pivot = min(whole, key=lambda b: (self._weights[b], -b))
        by = -left.pop(pivot).inverse()
        row = _Row(found.offset * by, {b: f * by for b, f in left.items()}, found.nodes)
        self._put(pivot, row)

    def _forget(self, blocks: Iterable[int], nodes: tuple[Node, ...]) -> None:
        """No shift for some unknowns: stricter than the law that they are in, and what holds anyway holds."""
        self.is_strict = True
        for block in blocks:
            none = Rounded.exact(np.zeros(self._lengths[block]))
            self._put(block, _Row(none, {}, nodes))

    def values(self) -> list[Array]:
        """A shift for every block that obeys all laws; 0 where nothing asks for more."""
        return [
            self._reduced(self._rows[block]).offset.settled_at(0)
            if block in self._rows
            else np.zeros(length)
            for block, length in enumerate(self._lengths)
        ]

    def _reduced(self, row: _Row) -> _Row:
        """A row without pivots."""
        offset, terms, nodes = row.offset, dict(row.terms), dict.fromkeys(row.nodes)
        while (pivot := next((b for b in terms if b in self._rows), None)) is not None:
            factor, known = terms.pop(pivot), self._whole(pivot)
            offset = offset + factor * known.offset
            for block, theirs in known.terms.items():
                moved = factor * theirs
                terms[block] = terms[block] + moved if block in terms else moved
            nodes |= dict.fromkeys(known.nodes[:_FEW])
        return _Row(offset, terms, tuple(nodes))

    def _whole(self, pivot: int) -> _Row:
        """The row of a pivot, written in unknowns that are no pivots themselves."""
        pending = [pivot]
        while pending:
            row = self._rows[pending[-1]]
            deeper = [b for b in row.terms if b in self._rows]
            unsolved = [b for b in deeper if any(c in self._rows for c in self._rows[b].terms)]
            if unsolved:
                pending += unsolved
                continue
            block = pending.pop()
            if deeper:
                self._put(block, _substituted(row, {b: self._rows[b] for b in deeper}))
        return self._rows[pivot]

    def _put(self, pivot: int, row: _Row) -> None:
        before = self._rows.get(pivot)

        def undo() -> None:
            if before is None:
                del self._rows[pivot]
            else:
                self._rows[pivot] = before

        self._undo.append(undo)
        self._rows[pivot] = row


_FEW = 4


def _substituted(row: _Row, known: dict[int, _Row]) -> _Row:
    offset, terms = row.offset, {b: f for b, f in row.terms.items() if b not in known}
    nodes = dict.fromkeys(row.nodes)
    for pivot, other in known.items():
        factor = row.terms[pivot]
        offset = offset + factor * other.offset
        for block, theirs in other.terms.items():
            moved = factor * theirs
            terms[block] = terms[block] + moved if block in terms else moved
        nodes |= dict.fromkeys(other.nodes[:_FEW])
    return _Row(offset, terms, tuple(nodes)[:_FEW])
