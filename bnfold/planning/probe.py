"""Probes: running an operator on small made-up tensors to learn what it does, not re-implementing it.

The index probe pushes labels through a Movement and reads which input element each output element
is made of. The ones probe pushes ones through an Average: where the answer is not one, a shift
would arrive changed. Both are tried on as few elements as show what happens.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from bnfold.constants import Shape
from bnfold.graph import Graph, Node, Oracle, Value
from bnfold.kinds import Movement
from bnfold.planning.reasons import Reason, Refused

Indices = NDArray[np.integer[Any]]
LARGEST = 1 << 24
_KEPT = 1 << 16


@dataclass(frozen=True, eq=False)
class Routing:
    """For one output of a Movement: ``source`` holds, per element, the flat index over all inputs
    laid end to end, or -1 where the operator writes a constant of its own (in ``constants``)."""

    source: Indices
    constants: NDArray[np.float64]


# What was asked before: a node answers the same question many times in one plan.
_Answers = dict[tuple[tuple[Shape, ...], int], list[Routing]]
_ANSWERS: WeakKeyDictionary[Node, _Answers] = WeakKeyDictionary()


def trial_shapes(
    node: Node, graph: Graph, round: int, vary: Collection[int] = (), *, behind: bool = False
) -> list[Shape]:
    """Input shapes that show all that a Movement does: axes along which nothing happens shrink to 1.

    Args:
        node: the Movement.
        graph: where it stands.
        round: the assignment of sizes.
        vary: axes along which elements differ, and which therefore stay as they are.
        behind: these are axes of the outputs, else of the inputs.

    Raises:
        Refused: where a shape is not known.
    """
    return [
        _trial_shape(node, _shape(v, graph, round), graph, round, vary, behind) for v in node.inputs
    ]


def _shape(value: Value, graph: Graph, round: int) -> Shape:
    shape = graph.oracle.shape(value, round)
    if shape is None:
        raise Refused(Reason.UNKNOWN_SHAPE, value.name)
    return shape


def _trial_shape(
    node: Node, shape: Shape, graph: Graph, round: int, vary: Collection[int], behind: bool
) -> Shape:
    kind = node.kind
    assert isinstance(kind, Movement)
    rank = len(shape)
    if kind.row_major:
        kept: set[int] = set()
        for mine, others in blocks(node, shape, _shape(node.outputs[0], graph, round)):
            if set(others if behind else mine) & set(vary):
                kept |= set(mine)
    elif kind.axes is not None and len(kind.axes) == rank:
        kept = {kind.axes[axis] for axis in vary} if behind else set(vary)
    elif kind.touched is not None:
        kept = (touched_axes(node, rank) or set()) | set(vary)
    else:
        kept = set(range(rank))
    return tuple(n if axis in kept else min(n, 1) for axis, n in enumerate(shape))


def touched_axes(node: Node, rank: int) -> set[int] | None:
    """The axes of a value of ``rank`` that a Movement works on, None for all of them.

    Raises:
        Refused: where it has no such axes, as in a file that is not sound.
    """
    assert isinstance(node.kind, Movement)
    axes = node.kind.touched
    if axes and not rank:
        raise Refused(Reason.AXIS_MISMATCH, node.label)
    return None if axes is None else {axis % rank for axis in axes}


def blocks(node: Node, before: Shape, after: Shape) -> Iterator[tuple[range, range]]:
    """The axes before and behind a reshape in the smallest groups that hold the same elements.

    Each group is reshaped by itself: of (N, C, H, W) made (N, g, C / g, H * W), the groups are N,
    C with g and C / g, and H and W with H * W.

    Raises:
        Refused: where the numbers of elements differ.
    """
    if prod(before) != prod(after) or 0 in before:
        raise Refused(Reason.PROBE_FAILED, node.label)
    i = j = 0
    while i < len(before) or j < len(after):
        k, m = min(i + 1, len(before)), min(j + 1, len(after))
        while prod(before[i:k]) != prod(after[j:m]):
            if prod(before[i:k]) < prod(after[j:m]):
                k += 1
            else:
                m += 1
        yield range(i, k), range(j, m)
        i, j = k, m


def index_probe(node: Node, shapes: Sequence[Shape], oracle: Oracle, round: int) -> list[Routing]:
    """The routing of every output of ``node`` for inputs of ``shapes``, as `trial_shapes` gives them.

    Raises:
        Refused: where the operator cannot be run, is too large to try, or changes elements.
    """
    answers = _ANSWERS.setdefault(node, {})
    question = tuple(shapes), round
    if question in answers:
        return answers[question]
    total = sum(map(prod, shapes))
    if total > LARGEST:
        raise Refused(Reason.PROBE_FAILED, node.label)
    assert isinstance(node.kind, Movement)
    if node.kind.row_major:
        routings = [_in_order(node, shapes[0], oracle, round)]
    else:
        routings = _routings(node, shapes, oracle, round)
    if total <= _KEPT:
        answers[question] = routings
    return routings


def _in_order(node: Node, shape: Shape, oracle: Oracle, round: int) -> Routing:
    """The routing of a reshape: elements keep their order."""
    before, after = (oracle.shape(v, round) for v in (node.inputs[0], node.outputs[0]))
    if before is None or after is None:
        raise Refused(Reason.UNKNOWN_SHAPE, node.outputs[0].name)
    target: list[int] = []
    for mine, others in blocks(node, before, after):
        shrunk = any(shape[axis] != before[axis] for axis in mine)
        target += [1 if shrunk else after[axis] for axis in others]
    source = np.arange(prod(shape), dtype=np.int32).reshape(target)
    return Routing(source, np.broadcast_to(0.0, source.shape))


def _routings(node: Node, shapes: Sequence[Shape], oracle: Oracle, round: int) -> list[Routing]:
    """Two runs with different labels tell moved elements (their label follows) from constants
    (theirs stays). Labels are exact integers in float64 or, where the operator takes only that,
    float32."""
    sizes = [prod(shape) for shape in shapes]
    total = sum(sizes)
    starts = np.cumsum([0, *sizes])

    def labelled(offset: int) -> list[NDArray[Any]]:
        return [
            np.arange(start + offset, start + offset + size, dtype=np.float64).reshape(shape)
            for start, size, shape in zip(starts[:-1], sizes, shapes, strict=True)
        ]

    first = _run(node, labelled(1), oracle, round)
    second = _run(node, labelled(1 + total), oracle, round)
    routings = []
    for a, b in zip(first, second, strict=True):
        moved = (b - a) == total
        index = np.where(moved, a - 1, -1).astype(np.int32)
        exact = np.where(moved, a - 1 == index, a == b)
        if not exact.all() or (index >= total).any():
            raise Refused(Reason.PROBE_FAILED, node.label)
        constants = np.broadcast_to(0.0, a.shape) if moved.all() else np.where(moved, 0.0, a)
        routings.append(Routing(index, constants))
    return routings


def carries_shift(node: Node, shapes: Sequence[Shape], oracle: Oracle, round: int) -> bool:
    """Whether ones that go into ``node`` come out as ones everywhere, borders included.

    Raises:
        Refused: where the operator cannot be run, or is too large to try.
    """
    if sum(map(prod, shapes)) > LARGEST:
        raise Refused(Reason.PROBE_FAILED, node.label)
    outputs = _run(node, [np.ones(shape) for shape in shapes], oracle, round)
    # Interpolation weights are rounded by the runtime; a lost border row is wrong by far more.
    return bool(np.allclose(outputs[0], 1.0, rtol=0, atol=1e-5))


def _run(
    node: Node, arrays: list[NDArray[Any]], oracle: Oracle, round: int
) -> list[NDArray[np.float64]]:
    try:
        return [np.asarray(y, dtype=np.float64) for y in oracle.run(node, arrays, round)]
    except NotImplementedError:
        raise Refused(Reason.PROBE_FAILED, node.label) from None
