"""Maxima over space."""

from __future__ import annotations

from bnfold.formats.onnx.graph.operators.averages import global_axes, reduced_axes
from bnfold.formats.onnx.graph.operators.view import NodeView, Reading
from bnfold.kinds import Monotone


def read_pool(view: NodeView) -> Reading | None:
    if not view.only_first_output_read():
        return None  # the indices of the maxima are in use
    spatial = len(view.ints("kernel_shape"))
    return Reading(Monotone((0, 1, *[None] * spatial)), (view.name(0),))


def read_global_pool(view: NodeView) -> Reading | None:
    axes = global_axes(view)
    return None if axes is None else Reading(Monotone(axes), (view.name(0),))


def read_reduce_max(view: NodeView) -> Reading | None:
    axes = reduced_axes(view)
    return None if axes is None else Reading(Monotone(axes), (view.name(0),))


READERS = {
    "MaxPool": read_pool,
    "GlobalMaxPool": read_global_pool,
    "ReduceMax": read_reduce_max,
}
