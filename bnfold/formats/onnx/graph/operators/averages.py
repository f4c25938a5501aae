"""Averages over space: pools and means."""

from __future__ import annotations

from bnfold.formats.onnx.graph.operators.view import NodeView, Reading
from bnfold.kinds import Average


def read_pool(view: NodeView) -> Reading:
    spatial = len(view.ints("kernel_shape"))
    period = max([4, *view.ints("strides")])
    return Reading(Average((0, 1, *[None] * spatial), period), (view.name(0),))


def read_global_pool(view: NodeView) -> Reading | None:
    axes = global_axes(view)
    return None if axes is None else Reading(Average(axes), (view.name(0),))


def read_reduce_mean(view: NodeView) -> Reading | None:
    axes = reduced_axes(view)
    return None if axes is None else Reading(Average(axes), (view.name(0),))


def global_axes(view: NodeView) -> tuple[int | None, ...] | None:
    """Batch and channel stay, everything else is reduced to one element."""
    rank = view.rank()
    return None if rank is None else (0, 1, *[None] * (rank - 2))


def reduced_axes(view: NodeView) -> tuple[int | None, ...] | None:
    """Which input axis each output axis of a Reduce operator carries; None where unknown."""
    rank, axes = view.rank(), view.numbers(1, "axes")
    if rank is None or axes is None:
        return None
    gone = {int(axis) % rank for axis in axes}
    if not axes:
        gone = set() if view.attribute("noop_with_empty_axes", 0) else set(range(rank))
    if view.attribute("keepdims", 1):
        return tuple(None if axis in gone else axis for axis in range(rank))
    return tuple(axis for axis in range(rank) if axis not in gone)


READERS = {
    "AveragePool": read_pool,
    "GlobalAveragePool": read_global_pool,
    "ReduceMean": read_reduce_mean,
    "ReduceSum": read_reduce_mean,  # of ones there come more than one: a scale passes
}
