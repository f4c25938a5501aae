"""Resize and Upsample: a Movement where they copy the nearest element, an Average otherwise."""

from __future__ import annotations

from bnfold.formats.onnx.graph.operators.view import NodeView, Reading
from bnfold.kinds import Average, Movement


def read(view: NodeView) -> Reading | None:
    if view.attribute("antialias", 0) and view.attribute("mode", "nearest") == "nearest":
        return None
    resized = _resized_axes(view)
    if resized is None:
        return None
    if view.attribute("mode", "nearest") == "nearest":
        return Reading(Movement(tuple(a for a, r in enumerate(resized) if r)), (view.name(0),))
    if _writes_values(view):
        return None  # neither scale nor shift passes what the operator adds by itself
    axes = tuple(None if r else axis for axis, r in enumerate(resized))
    return Reading(Average(axes), (view.name(0),))


def _resized_axes(view: NodeView) -> tuple[bool, ...] | None:
    """For each axis whether its size changes; None where that cannot be known."""
    before = view.oracle.shape_of(view.scope, view.name(0))
    after = view.oracle.shape_of(view.scope, view.proto.output[0])
    if before is None or after is None or len(before) != len(after):
        return None
    # An axis of equal size may still be resampled: by a crop, or by a scale that rounds away.
    crops = view.attribute("coordinate_transformation_mode", "") == "tf_crop_and_resize"
    position = 1 if view.proto.op_type == "Upsample" or view.opset < 11 else 2
    scales = view.numbers(position, "scales") or [1.0] * len(before)
    chosen = [axis % len(before) for axis in view.ints("axes")]
    if chosen and len(scales) == len(chosen):  # operator set 18: the others stay
        scales = [dict(zip(chosen, scales, strict=True)).get(i, 1.0) for i in range(len(before))]
    if len(scales) != len(before):
        return None
    return tuple(crops or a != b or s != 1 for a, b, s in zip(before, after, scales, strict=True))


def _writes_values(view: NodeView) -> bool:
    """Whether places outside a crop get a number of their own. Zeros are weights that are missing."""
    crops = view.attribute("coordinate_transformation_mode", "") == "tf_crop_and_resize"
    return crops and bool(view.attribute("extrapolation_value", 0.0))


READERS = {"Resize": read, "Upsample": read}
