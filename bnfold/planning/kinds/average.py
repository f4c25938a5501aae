"""Averages carry a scale always, and a shift where their weights sum to one everywhere."""

from __future__ import annotations

from bnfold.algebra.affine import AffineMap
from bnfold.constants import Shape
from bnfold.graph import Graph, Node, Value
from bnfold.kinds import Average
from bnfold.planning.kinds.walking import Walk
from bnfold.planning.probe import carries_shift
from bnfold.planning.reasons import Reason, Refused


def pull(node: Node, value: Value, amap: AffineMap, walk: Walk) -> None:
    assert isinstance(node.kind, Average)
    _check_shift(node, amap, walk.graph)
    source = before_reduction(node, node.kind.axes, amap, walk)
    walk.pull(node.inputs[0], source, node)


def push(node: Node, value: Value, amap: AffineMap, walk: Walk) -> None:
    assert isinstance(node.kind, Average)
    _check_shift(node, amap, walk.graph)
    walk.push(node.outputs[0], after_reduction(node, node.kind.axes, amap))


def before_reduction(
    node: Node, axes: tuple[int | None, ...], amap: AffineMap, walk: Walk
) -> AffineMap:
    """A map on the output of a reduction, as a map on its input.

    Raises:
        Refused: where it varies along an axis that is reduced.
    """
    if any(axes[axis] is None for axis in amap.varies_along):
        raise Refused(Reason.MIXED_CHANNELS, node.label)
    rank = walk.graph.rank(node.inputs[0])
    if rank is None:
        raise Refused(Reason.UNKNOWN_SHAPE, node.inputs[0].name)
    return amap.with_axes(tuple(axes.index(i) if i in axes else None for i in range(rank)))


def after_reduction(node: Node, axes: tuple[int | None, ...], amap: AffineMap) -> AffineMap:
    """A map on the input of a reduction, as a map on its output.

    Raises:
        Refused: where it varies along an axis that is reduced.
    """
    if any(axis not in axes for axis in amap.varies_along):
        raise Refused(Reason.MIXED_CHANNELS, node.label)
    return amap.with_axes(axes)


def _check_shift(node: Node, amap: AffineMap, graph: Graph) -> None:
    if not amap.has_no_shift and not passes_shift(node, graph):
        raise Refused(Reason.SHIFT_BLOCKED, node.label)


def passes_shift(node: Node, graph: Graph) -> bool:
    """Whether a shift arrives unchanged behind an average, at every size that there may be.

    Raises:
        Refused: where the operator cannot be asked.
    """
    return all(
        carries_shift(node, [shape], graph.oracle, round)
        for round, shapes in enumerate(_probe_shapes(node, graph))
        for shape in shapes
    )


def _probe_shapes(node: Node, graph: Graph) -> list[list[Shape]]:
    """Shapes to try in each round: carried axes of size 1; others at their size, and, where that
    is not fixed by the file, at a few more, since the last window of a pool depends on it."""
    assert isinstance(node.kind, Average)
    shapes = graph.shapes(node.inputs[0])
    if shapes is None:
        raise Refused(Reason.UNKNOWN_SHAPE, node.inputs[0].name)
    dynamic = [len(sizes) > 1 for sizes in map(set, zip(*shapes, strict=True))]
    result = []
    for shape in shapes:
        tried = []
        for more in range(node.kind.period if any(dynamic) else 1):
            sizes = [n + more * is_dynamic for n, is_dynamic in zip(shape, dynamic, strict=True)]
            tried.append(tuple(1 if i in node.kind.axes else n for i, n in enumerate(sizes)))
        result.append(list(dict.fromkeys(tried)))
    return result
