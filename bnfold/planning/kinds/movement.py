"""Movements carry a map element by element; the index probe says which element goes where."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np

from bnfold.algebra.affine import AffineMap, Array
from bnfold.algebra.rounding import float_info
from bnfold.constants import Shape
from bnfold.graph import Node, Value
from bnfold.kinds import Movement
from bnfold.planning.kinds.walking import Walk
from bnfold.planning.probe import index_probe, touched_axes, trial_shapes
from bnfold.planning.reasons import Reason, Refused

_MOST_GAIN = 64.0  # half precision holds 65504: room for values up to a thousand


def pull(node: Node, value: Value, amap: AffineMap, walk: Walk) -> None:
    _check_fill(node, amap)
    _check_range(node, amap)
    if len(set(node.inputs)) < len(node.inputs):
        raise Refused(Reason.ACROSS_REGIONS, node.label)
    if _is_untouched(node, amap) and sum(map(_is_live, node.outputs)) == 1:
        _check_constants(node, amap, walk)
        maps = [amap] * len(node.inputs)
    else:
        maps = _agreed([_pulled(node, value, amap, walk, i) for i in _rounds(walk)], node)
    for source, source_map in zip(node.inputs, maps, strict=True):
        walk.pull(source, source_map, node)


def push(node: Node, value: Value, amap: AffineMap, walk: Walk) -> None:
    _check_fill(node, amap)
    if _is_widening(node, reverse=True):
        raise Refused(Reason.NARROW_TYPE, node.label)  # un-normalised values would be rounded
    if _is_untouched(node, amap) and len(node.inputs) == 1:
        _check_constants(node, amap, walk)
        maps = [amap] * len(node.outputs)
    else:
        maps = _agreed([_pushed(node, value, amap, walk, i) for i in _rounds(walk)], node)
    for target, target_map in zip(node.outputs, maps, strict=True):
        if _is_live(target):
            walk.push(target, target_map)


def reads_unchanged(node: Node, value: Value, amap: AffineMap, walk: Walk) -> bool:
    """Whether ``node`` reads only such elements of ``value`` as ``amap`` leaves as they are."""
    for round in _rounds(walk):
        shapes = trial_shapes(node, walk.graph, round, amap.varies_along)
        starts = np.cumsum([0, *map(prod, shapes)])
        scale, shift = _spread(amap, shapes[node.inputs.index(value)], node)
        for routing in index_probe(node, shapes, walk.graph.oracle, round):
            for i, source in enumerate(node.inputs):
                if source is value:
                    local = routing.source - starts[i]
                    read = local[(local >= 0) & (local < scale.size)]
                    if (scale[read] != 1).any() or (shift[read] != 0).any():
                        return False
    return True


def _is_live(value: Value) -> bool:
    return bool(value.readers) or value.is_output


def _rounds(walk: Walk) -> range:
    return range(walk.graph.oracle.rounds)


def _spread(amap: AffineMap, shape: Shape, node: Node) -> tuple[Array, Array]:
    """Scale and shift of every element of a value of ``shape``, in row-major order.

    Raises:
        Refused: where the map varies along an axis that has another size there.
    """
    if not amap.fits(shape):
        raise Refused(Reason.AXIS_MISMATCH, node.label)
    scale, shift = (np.broadcast_to(a, shape).reshape(-1) for a in (amap.scale, amap.shift))
    return scale, shift


def _is_untouched(node: Node, amap: AffineMap) -> bool:
    """Whether the map varies only along axes that the operator leaves alone."""
    touched = touched_axes(node, amap.rank)
    return touched is not None and not touched & set(amap.varies_along)


def _check_fill(node: Node, amap: AffineMap) -> None:
    assert isinstance(node.kind, Movement)
    fill = node.kind.fill
    if fill is not None and not np.all(amap.scale * fill + amap.shift == fill):
        raise Refused(Reason.SHIFT_BLOCKED, node.label)


def _check_range(node: Node, amap: AffineMap) -> None:
    """Pulled in front of a widening cast, normalised values live in the narrow type: they have to
    keep well inside its range where the values before them did."""
    if _is_widening(node):
        assert isinstance(node.kind, Movement) and node.kind.cast is not None
        largest = float(float_info(node.kind.cast[0]).max)
        if np.abs(amap.scale).max() > _MOST_GAIN or np.abs(amap.shift).max() > largest / 4:
            raise Refused(Reason.NARROW_TYPE, node.label)


def _is_widening(node: Node, *, reverse: bool = False) -> bool:
    """Whether the node's output type holds numbers that its input type does not."""
    assert isinstance(node.kind, Movement)
    if node.kind.cast is None:
        return False
    before, after = (float_info(t) for t in node.kind.cast)
    if reverse:
        before, after = after, before
    return bool(float(after.max) > float(before.max) or float(after.eps) < float(before.eps))


def _check_constants(node: Node, amap: AffineMap, walk: Walk) -> None:
    """What the operator writes by itself (zero padding) must be a fixed point of the map."""
    for round in _rounds(walk):
        shapes = trial_shapes(node, walk.graph, round)
        for routing in index_probe(node, shapes, walk.graph.oracle, round):
            for constant in np.unique(routing.constants[routing.source < 0]):
                if (amap.scale * constant + amap.shift != constant).any():
                    raise Refused(Reason.SHIFT_BLOCKED, node.label)


def _pulled(node: Node, value: Value, amap: AffineMap, walk: Walk, round: int) -> list[AffineMap]:
    """Maps on the inputs that make ``value`` become ``amap(value)`` and leave other outputs alone."""
    shapes = trial_shapes(node, walk.graph, round, amap.varies_along, behind=True)
    total = sum(map(prod, shapes))
    scale, shift = np.full(total, np.nan), np.full(total, np.nan)
    for output, routing in zip(
        node.outputs, index_probe(node, shapes, walk.graph.oracle, round), strict=False
    ):
        if not _is_live(output):
            continue
        source = routing.source.reshape(-1)
        if output is value:
            s, t = _spread(amap, routing.source.shape, node)
        else:
            s, t = np.ones(source.size), np.zeros(source.size)
        constants = routing.constants.reshape(-1)
        fixed = source < 0
        if (s[fixed] * constants[fixed] + t[fixed] != constants[fixed]).any():
            raise Refused(Reason.SHIFT_BLOCKED, node.label)
        for wanted, found in ((s, scale), (t, shift)):
            before = found[source[~fixed]]
            if ((before != wanted[~fixed]) & ~np.isnan(before)).any():
                raise Refused(Reason.MIXED_CHANNELS, node.label)
            found[source[~fixed]] = wanted[~fixed]
            if (found[source[~fixed]] != wanted[~fixed]).any():
                raise Refused(Reason.MIXED_CHANNELS, node.label)
    return [
        AffineMap(_compressed(s.reshape(shape), 1.0), _compressed(t.reshape(shape), 0.0))
        for shape, s, t in zip(shapes, _cut(scale, shapes), _cut(shift, shapes), strict=True)
    ]


def _pushed(node: Node, value: Value, amap: AffineMap, walk: Walk, round: int) -> list[AffineMap]:
    """Maps on the outputs that follow where the input ``value`` carries ``amap``."""
    shapes = trial_shapes(node, walk.graph, round, amap.varies_along)
    carried = [
        _spread(amap if source is value else AffineMap.identity(len(shape)), shape, node)
        for source, shape in zip(node.inputs, shapes, strict=True)
    ]
    scale = np.concatenate([*(s for s, _ in carried), [1.0]])
    shift = np.concatenate([*(t for _, t in carried), [0.0]])
    return [  # index -1, a constant of the operator, reads the neutral last entry
        AffineMap(_compressed(scale[r.source], 1.0), _compressed(shift[r.source], 0.0))
        for r in index_probe(node, shapes, walk.graph.oracle, round)
    ]


def _cut(flat: Array, shapes: Sequence[Shape]) -> list[Array]:
    return np.split(flat, np.cumsum([prod(shape) for shape in shapes])[:-1])


def _compressed(full: Array, neutral: float) -> Array:
    """``full`` with every axis along which it is constant cut to size 1; NaN agrees with anything."""
    for axis in range(full.ndim):
        if full.shape[axis] <= 1:
            continue
        low = np.fmin.reduce(full, axis=axis, keepdims=True)
        high = np.fmax.reduce(full, axis=axis, keepdims=True)
        if ((low == high) | np.isnan(low)).all():
            full = low
    return np.where(np.isnan(full), neutral, full)


def _agreed(rounds: list[list[AffineMap]], node: Node) -> list[AffineMap]:
    """The maps, where they do not depend on the sizes of the dynamic axes."""
    first = rounds[0]
    for other in rounds[1:]:
        for a, b in zip(first, other, strict=True):
            if not (np.array_equal(a.scale, b.scale) and np.array_equal(a.shift, b.shift)):
                raise Refused(Reason.MIXED_CHANNELS, node.label)
    return first
