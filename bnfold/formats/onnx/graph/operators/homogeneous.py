"""Rectifiers, magnitudes and norms: what a positive factor passes as it is."""

from __future__ import annotations

from bnfold.formats.onnx.graph.operators.averages import global_axes, reduced_axes
from bnfold.formats.onnx.graph.operators.view import NodeView, Reading
from bnfold.kinds import Homogeneous


def read_relu(view: NodeView) -> Reading:
    return Reading(Homogeneous(rectifies=True), (view.name(0),))


def read_elementwise(view: NodeView) -> Reading:
    return Reading(Homogeneous(), (view.name(0),))


def read_prelu(view: NodeView) -> Reading | None:
    """A slope that is computed is another value that flows in."""
    slope = view.constant(1)
    if slope is None or slope.obstacle or view.constant(0) is not None:
        return None
    return read_elementwise(view)


def read_clip(view: NodeView) -> Reading | None:
    """Cut off below at zero and nowhere else, it is a Relu."""
    if view.opset < 11:
        least, most = view.attribute("min"), view.attribute("max")
        return read_relu(view) if least == 0 and most is None else None
    bound = view.constant(1)
    fixed = bound is not None and bound.obstacle is None
    return read_relu(view) if fixed and view.numbers(1) == [0.0] and not view.name(2) else None


def read_pool(view: NodeView) -> Reading:
    spatial = len(view.ints("kernel_shape"))
    return Reading(Homogeneous((0, 1, *[None] * spatial)), (view.name(0),))


def read_global_pool(view: NodeView) -> Reading | None:
    axes = global_axes(view)
    return None if axes is None else Reading(Homogeneous(axes), (view.name(0),))


def read_reduce(view: NodeView) -> Reading | None:
    axes = reduced_axes(view)
    return None if axes is None else Reading(Homogeneous(axes), (view.name(0),))


READERS = {
    "Relu": read_relu,
    "LeakyRelu": read_elementwise,
    "PRelu": read_prelu,
    "Abs": read_elementwise,
    "Clip": read_clip,
    "LpPool": read_pool,
    "GlobalLpPool": read_global_pool,
    "ReduceL1": read_reduce,
    "ReduceL2": read_reduce,
}
