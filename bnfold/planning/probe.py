"""Asking the operator: two probes that read off what an operator does instead of re-implementing it.

The index probe pushes labels through a Movement and reads which input element each output element
is made of. The ones probe pushes ones through an Average: where the answer is not one, a shift
would arrive changed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bnfold.graph import Node, Oracle, Shape
from bnfold.planning.reasons import Reason, Refused

Indices = NDArray[np.int64]
LARGEST = 1 << 26


@dataclass(frozen=True, eq=False)
class Routing:
    """For one output of a Movement: ``source`` holds, per element, the flat index over all inputs
    laid end to end, or -1 where the operator writes a constant of its own (in ``constants``)."""

    source: Indices
    constants: NDArray[np.float64]


def index_probe(node: Node, shapes: Sequence[Shape], oracle: Oracle, round: int) -> list[Routing]:
    """The routing of every output of ``node`` for inputs of ``shapes``.

    Two runs with different labels tell moved elements (their label follows) from constants (theirs
    stays). Labels are exact integers in float64 or, where the operator takes only that, float32.

    Raises:
        Refused: where the operator cannot be run, is too large to try, or changes elements.
    """
    sizes = [prod(shape) for shape in shapes]
    total = sum(sizes)
    if total > LARGEST:
        raise Refused(Reason.PROBE_FAILED, node.label)
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
        index = np.where(moved, a - 1, -1).astype(np.int64)
        exact = np.where(moved, a - 1 == index, a == b)
        if not exact.all() or (index >= total).any():
            raise Refused(Reason.PROBE_FAILED, node.label)
        routings.append(Routing(index, np.where(moved, 0.0, a)))
    return routings


def carries_shift(node: Node, shapes: Sequence[Shape], oracle: Oracle, round: int) -> bool:
    """Whether ones that go into ``node`` come out as ones everywhere, borders included.

    Raises:
        Refused: where the operator cannot be run.
    """
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
