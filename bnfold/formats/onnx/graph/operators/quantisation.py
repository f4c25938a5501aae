"""Operators that round values between layers; and biases in the steps in which a layer adds up."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from bnfold.constants import Constant, Obstacle
from bnfold.formats.onnx.graph.operators.view import NodeView, Reading
from bnfold.kinds import Opaque

_CLOSE = 1e-5  # float32 products of two scales, whoever rounded them


def read_rounding(view: NodeView) -> Reading:
    """Of computed values: a constant one is no node."""
    names = tuple(n for i, n in enumerate(view.proto.input) if n and not view.constant(i))
    return Reading(Opaque(obstacle=Obstacle("QUANTIZED_VALUE")), names)


def in_steps(view: NodeView, weight: Constant, bias: Constant | None, axis: int) -> Constant | None:
    """``bias``, with the input's scale where it is stored in steps of that times the weight's.

    Args:
        view: the layer.
        weight: of it.
        bias: of it.
        axis: where the weight has its output channels.
    """
    scales = weight.quantised, None if bias is None else bias.quantised
    entering = _scale_before(view)
    if bias is None or scales[0] is None or scales[1] is None or entering is None:
        return bias
    own, theirs = scales[0], scales[1]
    zero = theirs.zero is not None and bool(np.asarray(theirs.zero.load()).any())
    per_output = own.axis is None or own.axis == own.order[axis]
    if zero or not per_output or theirs.latent is not None or own.block is not None:
        return bias
    steps = entering * own.scale.float64().reshape(-1)
    if not np.allclose(theirs.scale.float64().reshape(-1), steps, rtol=_CLOSE, atol=0):
        return bias
    # The constant itself may be read elsewhere.
    return replace(bias, quantised=replace(theirs, input_scale=entering))


def _scale_before(view: NodeView) -> float | None:
    """The one scale of the quantised values that flow into a layer."""
    maker = view.scope.producers.get(view.name(0))
    if maker is None or maker.op_type != "DequantizeLinear":
        return None
    scale = view.constants.find(view.scope, maker.input[1])
    if scale is None or scale.obstacle or scale.shape not in ((), (1,)):
        return None
    return float(scale.float64().reshape(-1)[0])


READERS = {
    "QuantizeLinear": read_rounding,
    "DequantizeLinear": read_rounding,
    "DynamicQuantizeLinear": read_rounding,
}
