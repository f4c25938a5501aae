"""Operators that move elements about. What exactly they do is asked of the operator itself."""

from __future__ import annotations

import numpy as np
import onnx

from bnfold.formats.onnx.graph.element_types import element_type
from bnfold.formats.onnx.graph.operators.view import NodeView, Reading
from bnfold.kinds import Mixture, Movement

_FLOATS = {
    onnx.TensorProto.FLOAT,
    onnx.TensorProto.DOUBLE,
    onnx.TensorProto.FLOAT16,
    onnx.TensorProto.BFLOAT16,
}


def read_identity(view: NodeView) -> Reading:
    return Reading(Movement(()), (view.name(0),))


def read_dropout(view: NodeView) -> Reading | None:
    """Identity in inference; a training flag or a mask in use makes it something else."""
    training = view.numbers(2)
    if training is None or any(training) or not view.only_first_output_read():
        return None
    if view.opset < 7 and not view.attribute("is_test", 0):
        return None
    return read_identity(view)


def read_cast(view: NodeView) -> Reading | None:
    """Between floating-point types only: integers would be rounded elsewhere after a fold."""
    source = element_type(view.scope, view.name(0), view.opset)
    target = view.attribute("to")
    if target not in _FLOATS or source not in _FLOATS:
        return None
    types = [np.dtype(onnx.helper.tensor_dtype_to_np_dtype(code)) for code in (source, target)]
    return Reading(Movement((), cast=(types[0], types[1])), (view.name(0),))


def read_whole(view: NodeView) -> Reading:
    """Any axis may be touched."""
    return Reading(Movement(None), (view.name(0),))


def read_reshape(view: NodeView) -> Reading:
    return Reading(Movement(None, row_major=True), (view.name(0),))


def read_transpose(view: NodeView) -> Reading:
    return Reading(Movement(None, axes=tuple(view.ints("perm")) or None), (view.name(0),))


def read_concat(view: NodeView) -> Reading:
    return Reading(Movement((int(view.attribute("axis", 1)),)), tuple(view.proto.input))


def read_split(view: NodeView) -> Reading:
    return Reading(Movement((int(view.attribute("axis", 0)),)), (view.name(0),))


def read_slice(view: NodeView) -> Reading:
    axes = view.numbers(3, "axes")
    if axes == []:  # absent: all leading axes, as many as there are starts
        starts = view.numbers(1, "starts")
        axes = None if not starts else list(range(len(starts)))
    touched = None if axes is None else tuple(int(axis) for axis in axes)
    return Reading(Movement(touched), (view.name(0),))


def read_gather(view: NodeView) -> Reading | None:
    indices = view.constant(1)
    if indices is None:
        return _gathered(view)
    one_to_one = len(indices.shape) == 1
    touched = (int(view.attribute("axis", 0)),) if one_to_one else None
    return Reading(Movement(touched), (view.name(0),))


def _gathered(view: NodeView) -> Reading | None:
    """Entries along one axis, by a list of indices that is computed."""
    rank, axis = view.rank(), int(view.attribute("axis", 0))
    if rank is None or view.rank(1) != 1 or view.constant(0) is not None:
        return None
    return Reading(Mixture(axis % rank - rank, sums_to_one=True), (view.name(0), view.name(1)))


def read_picked(view: NodeView) -> Reading | None:
    """GatherElements and GatherND, by indices that are known."""
    return None if view.constant(1) is None else read_whole(view)


def read_depth(view: NodeView) -> Reading:
    return Reading(Movement((1, 2, 3)), (view.name(0),))


def read_pad(view: NodeView) -> Reading:
    pads = view.numbers(1, "pads")
    if pads is None and view.oracle.rounds > 1:
        return Reading(Movement(None, fill=_fill(view)), (view.name(0),))
    if not pads or (view.opset >= 18 and view.name(3)):
        return read_whole(view)
    rank = len(pads) // 2
    touched = tuple(axis for axis in range(rank) if pads[axis] or pads[axis + rank])
    return Reading(Movement(touched), (view.name(0),))


def _fill(view: NodeView) -> float | None:
    """What a Pad whose amounts follow from sizes may write, even if not at the sizes tried."""
    if view.attribute("mode", "constant") != "constant":
        return None
    value = view.numbers(2, "value")
    return float("nan") if value is None else float(value[0] if value else 0.0)


READERS = {
    "Identity": read_identity,
    "Dropout": read_dropout,
    "Cast": read_cast,
    "Reshape": read_reshape,
    "Flatten": read_reshape,
    "Squeeze": read_reshape,
    "Unsqueeze": read_reshape,
    "Transpose": read_transpose,
    "Expand": read_whole,
    "Tile": read_whole,
    "Concat": read_concat,
    "Split": read_split,
    "Slice": read_slice,
    "Gather": read_gather,
    "GatherElements": read_picked,
    "GatherND": read_picked,
    "DepthToSpace": read_depth,
    "SpaceToDepth": read_depth,
    "Pad": read_pad,
}
