"""The scales of all blocks: union-find in which every member is its root times a known ratio.

Two scales are the same where nothing but the rounding of these products may lie between them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from bnfold.algebra.affine import Array
from bnfold.algebra.running_error import Rounded
from bnfold.graph import Node
from bnfold.planning.gauges.conflicts import Clash, Conflict


@dataclass(frozen=True, eq=False)
class _Class:
    """What is known of the scale of a root, each a vector over the block.

    ``pinned`` is its value where that is fixed, ``sign`` +1 or -1 where only that sign is allowed (else
    0); ``low`` and ``high`` bound ``log2 |ratio|`` over all members. ``anchor`` is the ratio of the
    largest part of the class, which had rather keep its scale.
    """

    size: int
    low: Array
    high: Array
    sign: Array
    anchor: Array
    weight: int
    pinned: Rounded | None = None
    pinned_by: Node | None = None
    signed_by: Node | None = None


class Scales:
    """Every change can be taken back to a `mark`.

    Args:
        lengths: how many cells each block has.
        weights: how many laws speak of each block.
        span: how many powers of two the scales of one class may lie apart.
    """

    def __init__(self, lengths: list[int], weights: list[int], span: float) -> None:
        self._parent = list(range(len(lengths)))
        self._ratio: list[Rounded | None] = [None] * len(lengths)
        self._classes = [
            _Class(1, z := np.zeros(n), z, z, np.ones(n), w)
            for n, w in zip(lengths, weights, strict=True)
        ]
        self._span = span
        self._undo: list[Callable[[], None]] = []

    def mark(self) -> int:
        return len(self._undo)

    def back_to(self, mark: int) -> None:
        while len(self._undo) > mark:
            self._undo.pop()()

    def find(self, block: int) -> tuple[int, Rounded]:
        """The root of a block, and its scale over that of the root."""
        ratio = Rounded.exact(np.ones_like(self._classes[block].low))
        while self._parent[block] != block:
            step = self._ratio[block]
            if step is not None:
                ratio = ratio * step
            block = self._parent[block]
        return block, ratio

    def relate(self, a: int, b: int, ratio: Rounded, node: Node) -> None:
        """``σ[a] = ratio * σ[b]``.

        Raises:
            Conflict: where that cannot be.
        """
        (root_a, of_a), (root_b, of_b) = self.find(a), self.find(b)
        factor = ratio * of_b * of_a.inverse()
        if root_a == root_b:
            self._check(~factor.may_be(1), Clash.SCALE, node)
            return
        if self._classes[root_a].size > self._classes[root_b].size:
            root_a, root_b, factor = root_b, root_a, factor.inverse()
        self._put(root_b, self._joined(self._classes[root_b], self._classes[root_a], factor))
        self._hang(root_a, root_b, None if (factor.value == 1).all() else factor)

    def pin(self, block: int, value: Rounded, node: Node) -> None:
        """``σ[block] = value``."""
        root, ratio = self.find(block)
        known = self._classes[root]
        wanted = value * ratio.inverse()
        if known.pinned is not None:
            self._check(_differ(known.pinned, wanted), Clash.SCALE, known.pinned_by)
            return
        self._check(np.sign(wanted.value) * known.sign < 0, Clash.SIGN, known.signed_by)
        self._put(root, replace(known, pinned=wanted, pinned_by=node))

    def positive(self, block: int, node: Node) -> None:
        """``σ[block] > 0``."""
        root, ratio = self.find(block)
        known = self._classes[root]
        sign = np.sign(ratio.value)
        held = known.sign if known.pinned is None else np.sign(known.pinned.value)
        self._check(sign * held < 0, Clash.SIGN, node)
        self._put(root, replace(known, sign=sign, signed_by=node))

    def values(self) -> list[Array]:
        """A scale for every block that obeys all laws; 1 where nothing asks for more."""
        chosen: dict[int, Rounded] = {}
        found = []
        for block in range(len(self._parent)):
            root, ratio = self.find(block)
            if root not in chosen:
                chosen[root] = _chosen(self._classes[root])
            found.append((ratio * chosen[root]).settled_at(1))
        return found

    def _joined(self, into: _Class, other: _Class, factor: Rounded) -> _Class:
        """Both as one, where ``σ[other] = factor * σ[into]``."""
        with np.errstate(divide="ignore"):
            moved = np.log2(np.abs(factor.value))
        low = np.minimum(into.low, other.low + moved)
        high = np.maximum(into.high, other.high + moved)
        self._check(~(high - low <= self._span), Clash.RANGE, other.signed_by)
        sign = other.sign * np.sign(factor.value)
        self._check(sign * into.sign < 0, Clash.SIGN, into.signed_by)
        sign = np.where(into.sign == 0, sign, into.sign)
        pinned, pinned_by = into.pinned, into.pinned_by
        if other.pinned is not None:
            theirs = other.pinned * factor.inverse()
            if pinned is not None:
                self._check(_differ(theirs, pinned), Clash.SCALE, pinned_by)
            else:
                pinned, pinned_by = theirs, other.pinned_by
        signed_by = into.signed_by or other.signed_by
        if pinned is not None:
            self._check(np.sign(pinned.value) * sign < 0, Clash.SIGN, signed_by)
        anchor, weight = _anchor(into, other, factor.value)
        size = into.size + other.size
        return _Class(size, low, high, sign, anchor, weight, pinned, pinned_by, signed_by)

    @staticmethod
    def _check(wrong: NDArray[np.bool_], clash: Clash, node: Node | None) -> None:
        if wrong.any():
            raise Conflict(clash, wrong, () if node is None else (node,))

    def _put(self, root: int, known: _Class) -> None:
        before = self._classes[root]

        def undo() -> None:
            self._classes[root] = before

        self._undo.append(undo)
        self._classes[root] = known

    def _hang(self, child: int, parent: int, ratio: Rounded | None) -> None:
        def undo() -> None:
            self._parent[child], self._ratio[child] = child, None

        self._undo.append(undo)
        self._parent[child], self._ratio[child] = parent, ratio


def _differ(a: Rounded, b: Rounded) -> NDArray[np.bool_]:
    return ~(a * b.inverse()).may_be(1)


def _anchor(into: _Class, other: _Class, factor: Array) -> tuple[Array, int]:
    theirs = other.anchor * factor
    if np.array_equal(theirs, into.anchor):
        return into.anchor, into.weight + other.weight
    return (into.anchor, into.weight) if into.weight >= other.weight else (theirs, other.weight)


def _chosen(known: _Class) -> Rounded:
    if known.pinned is not None:
        return known.pinned
    root = 1 / known.anchor
    wrong = np.sign(root) * known.sign < 0
    return Rounded.computed(np.where(wrong, -root, root))
