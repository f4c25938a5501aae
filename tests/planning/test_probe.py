"""Operators are asked on as few elements as show what they do, and once."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from numpy.typing import NDArray

from bnfold.constants import Shape
from bnfold.graph import Graph, Node, Value
from bnfold.kinds import Movement
from bnfold.planning.probe import LARGEST, blocks, index_probe, trial_shapes
from bnfold.planning.reasons import Refused


class Asked:
    """An oracle that transposes, and counts how often it is asked."""

    rounds = 1

    def __init__(self, shapes: dict[str, Shape], perm: Sequence[int] = ()) -> None:
        self.shapes, self.perm, self.runs = shapes, perm, 0

    def shape(self, value: Value, round: int) -> Shape | None:
        return self.shapes.get(value.name)

    def run(self, node: Node, arrays: Sequence[NDArray[Any]], round: int) -> list[NDArray[Any]]:
        self.runs += 1
        return [arrays[0].transpose(self.perm)]


def _node(kind: Movement) -> Node:
    return Node("node", "Move", kind, [Value("x")], [Value("y")])


def _reshape(before: Shape, after: Shape) -> tuple[Node, Graph]:
    return _node(Movement(None, row_major=True)), Graph([], Asked({"x": before, "y": after}))


@pytest.mark.parametrize(
    ("before", "after", "groups"),
    [
        ((2, 6, 4, 5), (2, 3, 2, 20), [((0,), (0,)), ((1,), (1, 2)), ((2, 3), (3,))]),
        ((2, 6, 1, 1), (2, 6), [((0,), (0,)), ((1,), (1,)), ((2,), ()), ((3,), ())]),
        ((6, 4), (1, 6, 4), [((0,), (0, 1)), ((1,), (2,))]),
        ((4, 6), (6, 4), [((0, 1), (0, 1))]),
    ],
)
def test_groups_of_a_reshape(before: Shape, after: Shape, groups: list[Any]) -> None:
    node, _ = _reshape(before, after)
    found = [(tuple(a), tuple(b)) for a, b in blocks(node, before, after)]
    assert found == groups


def test_a_reshape_that_loses_elements_is_refused() -> None:
    node, _ = _reshape((2, 3), (7,))
    with pytest.raises(Refused):
        list(blocks(node, (2, 3), (7,)))


@given(st.lists(st.integers(1, 4), min_size=1, max_size=5), st.data())
def test_a_shrunk_reshape_moves_what_varies_as_the_whole_one_does(
    sizes: list[int], data: st.DataObject
) -> None:
    """Elements that differ along one axis behind a reshape come from the same places."""
    factors = [f for n in sizes for f in ((2, 2) if n == 4 else (n,))]
    cuts = sorted(data.draw(st.sets(st.integers(1, max(1, len(factors) - 1)), max_size=4)))
    after = tuple(prod(part) for part in np.split(np.array(factors), cuts))
    after = tuple(int(n) for n in after)
    before = tuple(sizes)
    axis = data.draw(st.integers(0, len(after) - 1))
    node, graph = _reshape(before, after)
    (shape,) = trial_shapes(node, graph, 0, (axis,), behind=True)
    (routing,) = index_probe(node, [shape], graph.oracle, 0)
    marks = np.arange(after[axis]).reshape([-1 if i == axis else 1 for i in range(len(after))])
    small = np.full(prod(shape), -1)
    small[routing.source.reshape(-1)] = np.broadcast_to(marks, routing.source.shape).reshape(-1)
    whole = np.broadcast_to(marks, after).reshape(before)
    np.testing.assert_array_equal(np.broadcast_to(small.reshape(shape), before), whole)


def test_a_large_batch_costs_nothing() -> None:
    """A reshape of channels is tried on one sample, whatever the batch."""
    node, graph = _reshape((800_000, 16, 8, 8), (800_000, 4, 4, 64))
    assert trial_shapes(node, graph, 0, (2,), behind=True) == [(1, 16, 1, 1)]
    assert trial_shapes(node, graph, 0, (0,), behind=True) == [(800_000, 1, 1, 1)]


def test_a_transposition_keeps_the_axes_that_vary() -> None:
    graph = Graph([], Asked({"x": (70_000, 8, 9)}, (2, 0, 1)))
    node = _node(Movement(None, axes=(2, 0, 1)))
    assert trial_shapes(node, graph, 0, (0,), behind=True) == [(1, 1, 9)]
    assert trial_shapes(node, graph, 0, (1,)) == [(1, 8, 1)]


def test_the_same_question_is_asked_once() -> None:
    oracle = Asked({"x": (2, 3)}, (1, 0))
    node = _node(Movement(None, axes=(1, 0)))
    first = index_probe(node, [(2, 3)], oracle, 0)
    runs = oracle.runs
    assert index_probe(node, [(2, 3)], oracle, 0) is first and oracle.runs == runs
    index_probe(node, [(2, 1)], oracle, 0)
    assert oracle.runs > runs


def test_what_is_too_large_is_not_tried() -> None:
    oracle = Asked({}, (1, 0))
    with pytest.raises(Refused):
        index_probe(_node(Movement(None)), [(LARGEST, 2)], oracle, 0)
    assert not oracle.runs
