"""Which cells the outputs of a Movement are made of: the operator itself is asked."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bnfold.constants import Shape
from bnfold.graph import Graph, Node
from bnfold.planning.gauges.laws import IDENTITY, Cells, Field
from bnfold.planning.probe import index_probe, trial_shapes
from bnfold.planning.reasons import Reason, Refused

_OWN = -1  # what the operator writes by itself
_MOST_CELLS = 1 << 17


@dataclass(frozen=True, eq=False)
class Moved:
    """One output. ``beside_zeros`` are the cells that share their place with zeros of the operator's
    own, ``beside_others`` with other constants; ``axes`` and ``cells`` make a `Field`, in which -1
    stands where nothing but zeros is."""

    axes: tuple[int, ...]
    cells: Cells
    beside_zeros: Cells
    beside_others: Cells

    def agrees(self, other: Moved) -> bool:
        same = self.axes == other.axes and np.array_equal(self.cells, other.cells)
        zeros = np.array_equal(self.beside_zeros, other.beside_zeros)
        return same and zeros and np.array_equal(self.beside_others, other.beside_others)


def moved(node: Node, fields: list[Field], graph: Graph) -> list[Moved]:
    """What becomes of the fields of the inputs.

    Raises:
        Refused: where the operator cannot be asked, or where it depends on dynamic sizes.
    """
    rounds = [_in_round(node, fields, graph, i) for i in range(graph.oracle.rounds)]
    for later in rounds[1:]:
        if not all(a.agrees(b) for a, b in zip(rounds[0], later, strict=True)):
            raise Refused(Reason.MIXED_CHANNELS, node.label)
    return rounds[0]


def writes_constants(node: Node, graph: Graph) -> tuple[bool, bool]:
    """Whether the operator writes zeros of its own, and whether it writes other constants.

    Raises:
        Refused: where the operator cannot be asked.
    """
    zeros = others = False
    for round in range(graph.oracle.rounds):
        for routing in index_probe(node, trial_shapes(node, graph, round), graph.oracle, round):
            own = routing.constants[routing.source < 0]
            zeros |= bool((own == 0).any())
            others |= bool((own != 0).any())
    return zeros, others


def _in_round(node: Node, fields: list[Field], graph: Graph, round: int) -> list[Moved]:
    vary = tuple({axis for field in fields for axis in field.axes})
    shapes = trial_shapes(node, graph, round, vary)
    table = [_spread(f, shape, node) for f, shape in zip(fields, shapes, strict=True)]
    flat = np.concatenate([*(t.reshape(-1) for t in table), [_OWN]])
    return [
        _compressed(flat[r.source], (r.source < 0) & (r.constants == 0), r.constants != 0, node)
        for r in index_probe(node, shapes, graph.oracle, round)
    ]


def _spread(field: Field, shape: Shape, node: Node) -> Cells:
    sizes = tuple(shape[axis] for axis in field.axes if axis < len(shape))
    if sizes != field.cells.shape:
        raise Refused(Reason.MIXED_CHANNELS, node.label)
    return field.over(tuple(range(len(shape))), shape)


def _compressed(
    cells: Cells, zeros: NDArray[np.bool_], others: NDArray[np.bool_], node: Node
) -> Moved:
    """Without the axes along which nothing changes; constants of the operator agree with anything."""
    axes = []
    for axis in range(cells.ndim):
        high = cells.max(axis=axis, keepdims=True, initial=_OWN)
        same = (cells == high) | (cells == _OWN)
        if cells.shape[axis] <= 1 or same.all():
            cells = high
            zeros = np.asarray(zeros.any(axis=axis, keepdims=True))
            others = np.asarray(others.any(axis=axis, keepdims=True))
        else:
            axes.append(axis)
    if cells.size > _MOST_CELLS:
        raise Refused(Reason.MIXED_CHANNELS, node.label)
    kept = tuple(cells.shape[axis] for axis in axes)
    cells = np.where(others & (cells == _OWN), IDENTITY, cells)
    beside = [np.unique(cells[flag & (cells != _OWN)]) for flag in (zeros, others)]
    return Moved(tuple(axes), cells.reshape(kept), *beside)
