"""A choice of gauges that obeys all laws: every norm is asked once whether it can go as well."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from bnfold.algebra.affine import Array
from bnfold.algebra.running_error import Rounded
from bnfold.graph import Node
from bnfold.planning.gauges.blocks import Blocks, Piece
from bnfold.planning.gauges.conflicts import Clash, Conflict
from bnfold.planning.gauges.constants import Obstacles
from bnfold.planning.gauges.laws import (
    IDENTITY,
    Candidate,
    Cells,
    Law,
    Laws,
    ScaleLaw,
    ShiftLaw,
)
from bnfold.planning.gauges.scales import Scales
from bnfold.planning.gauges.shifts import Shifts


@dataclass(frozen=True, eq=False)
class Gauges:
    """Scale and shift of every cell."""

    scale: Array
    shift: Array

    def of(self, cells: Cells) -> tuple[Array, Array]:
        return self.scale[cells], self.shift[cells]

    def are_identity(self, cells: Cells) -> bool:
        scale, shift = self.of(cells)
        return bool((scale == 1).all() and (shift == 0).all())


class Solver:
    """The laws of a network, cut into blocks once and solved as often as need be.

    Args:
        laws: of the network.
        span: how many powers of two the scales of one class may lie apart.
    """

    def __init__(self, laws: Laws, span: float) -> None:
        self.laws = laws
        self._span = span
        every = [*laws.laws, *(law for c in laws.candidates for law in c.laws)]
        self.blocks = Blocks(laws.count, every)
        self._pieces = {law: list(self.blocks.pieces(law)) for law in every}
        lengths = self.blocks.ends - self.blocks.starts
        self._lengths: list[int] = lengths.tolist()
        self._obstacles = Obstacles(laws)
        self._weights = [0] * len(lengths)
        for law in laws.laws:
            for piece in self._pieces[law]:
                for block in piece.blocks:
                    self._weights[block] += 1

        self._begin()
        self._start = self.mark()

    @property
    def is_strict(self) -> bool:
        """Whether more was asked of the shifts than the laws do."""
        return self._shifts.is_strict

    def reset(self) -> None:
        """Forgets all norms: the identity solves what is left."""
        self.back_to(self._start)

    def _begin(self) -> None:
        self._scales = Scales(self._lengths, self._weights, self._span)
        self._shifts = Shifts(self._lengths, self._weights)
        identity = int(self.blocks.of(np.array([IDENTITY]))[0])
        nobody = self.laws.candidates[0].node
        one = Rounded.exact(np.ones(1))
        self._scales.pin(identity, one, nobody)
        self._shifts.add({identity: one}, Rounded.exact(np.zeros(1)), nobody)
        self._dead = np.zeros(self.laws.count, bool)
        self._levels = np.zeros(self.laws.count)
        self._died: list[Cells] = []
        for law in self.laws.laws:
            for piece in self._pieces[law]:
                self._enter(law, piece)

    def accept(self, candidate: Candidate) -> None:
        """Adds the laws of a norm.

        Raises:
            Conflict: where they contradict what holds, which is unchanged then.
        """
        mark = self.mark()
        found = self._clashes(candidate)
        if found:
            self.back_to(mark)
            gravest = min((c.clash for c in found), key=lambda clash: clash.value)
            same = [c for c in found if c.clash is gravest]
            raise same[0].together(same)
        if candidate.dead.size:
            self._dead[candidate.dead] = True
            self._levels[candidate.dead] = candidate.levels
            self._died.append(candidate.dead)

    def mark(self) -> tuple[int, int, int]:
        return self._scales.mark(), self._shifts.mark(), len(self._died)

    def back_to(self, mark: tuple[int, int, int]) -> None:
        self._scales.back_to(mark[0])
        self._shifts.back_to(mark[1])
        while len(self._died) > mark[2]:
            self._dead[self._died.pop()] = False

    def _clashes(self, candidate: Candidate) -> list[Conflict]:
        """Enters the laws of a norm; in which channels, for what reason, some of them cannot hold."""
        found = []
        blocked = self._obstacles.stand_in_the_way(candidate.dead, candidate.levels)
        if blocked.any():
            nodes = self._obstacles.nodes(candidate.dead[blocked], candidate.levels[blocked])
            found.append(Conflict(Clash.CONSTANT, candidate.dead_channels[blocked], nodes))
        for law in candidate.laws:
            if any(self._dead[cells].any() for cells in law.cells):
                found.append(Conflict(Clash.CONSTANT, law.places))
            for piece in self._pieces[law]:
                try:
                    self._enter(law, piece)
                except Conflict as conflict:
                    places = law.places[piece.span][np.broadcast_to(conflict.where, piece.length)]
                    found.append(Conflict(conflict.clash, places, conflict.nodes))
        return found

    def shares_a_class(self, candidate: Candidate, cells: Cells) -> bool:
        """Whether the scales around a norm hang together with those of some cells."""
        own = [c for law in candidate.laws if isinstance(law, ScaleLaw) for c in law.cells]
        return bool(own) and bool(self._roots(np.concatenate(own)) & self._roots(cells))

    def _roots(self, cells: Cells) -> set[int]:
        return {self._scales.find(int(block))[0] for block in self.blocks.of(cells)}

    def gauges(self) -> Gauges:
        """What the accepted norms need; the identity wherever they need nothing."""
        scale = np.concatenate(self._scales.values())
        shift = np.concatenate(self._shifts.values())
        return Gauges(np.where(self._dead, 0.0, scale), np.where(self._dead, self._levels, shift))

    def _enter(self, law: Law, piece: Piece) -> None:
        if isinstance(law, ShiftLaw):
            self._enter_shift(law, piece)
        elif not isinstance(law, ScaleLaw):
            self._scales.positive(piece.blocks[0], law.node)
        else:
            ratio = Rounded.computed(law.ratio[piece.span])
            if len(piece.blocks) == 1:
                self._scales.pin(piece.blocks[0], ratio, law.node)
            else:
                self._scales.relate(piece.blocks[0], piece.blocks[1], ratio, law.node)

    def _enter_shift(self, law: ShiftLaw, piece: Piece) -> None:
        terms: dict[int, Rounded] = {}
        for block, factor in zip(piece.blocks, law.factors, strict=True):
            part = Rounded.computed(factor[piece.span])
            terms[block] = terms[block] + part if block in terms else part
        offset = Rounded.computed(law.offset[piece.span], law.size[piece.span])
        self._shifts.add(terms, offset, law.node)


def choose(
    solver: Solver, refused: Collection[Node] = ()
) -> tuple[list[Candidate], dict[Node, Conflict]]:
    """Accepts one norm after the other, in the order of the network.

    Args:
        solver: is reset first.
        refused: norms that are not asked.
    """
    solver.reset()
    accepted: list[Candidate] = []
    conflicts: dict[Node, Conflict] = {}
    for candidate in solver.laws.candidates:
        if candidate.node in refused:
            continue
        try:
            solver.accept(candidate)
        except Conflict as conflict:
            conflicts[candidate.node] = conflict
        else:
            accepted.append(candidate)
    return accepted, conflicts


def alone(
    solver: Solver, accepted: Sequence[Candidate], conflicts: Mapping[Node, Conflict]
) -> dict[Node, Conflict]:
    """Which of the norms that `choose` has left could not go even if no other one did, and why."""
    found: dict[Node, Conflict] = {}
    solver.reset()
    nothing = solver.mark()
    is_first = True
    for candidate in solver.laws.candidates:
        is_first &= candidate not in accepted[:1]
        if candidate.node not in conflicts:
            continue
        if is_first:  # it was asked when nothing was accepted yet
            found[candidate.node] = conflicts[candidate.node]
        else:
            try:
                solver.accept(candidate)
            except Conflict as conflict:
                found[candidate.node] = conflict
            solver.back_to(nothing)
    return found
