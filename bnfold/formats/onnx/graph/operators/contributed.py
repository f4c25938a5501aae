"""Operators of onnxruntime's own, domain ``com.microsoft``: what its optimiser leaves in a file."""

from __future__ import annotations

from dataclasses import replace

from bnfold.formats.onnx.graph.evaluation import CONTRIBUTED
from bnfold.formats.onnx.graph.operators.convolutions import read_conv
from bnfold.formats.onnx.graph.operators.quantisation import read_rounding
from bnfold.formats.onnx.graph.operators.view import NodeView, Reading
from bnfold.kinds import Homogeneous, Linear, Opaque

DOMAIN = CONTRIBUTED
_ADDEND = 3


def read_fused_conv(view: NodeView) -> Reading | None:
    """A convolution with the activation behind it. One that adds another value as well is not read."""
    if view.name(_ADDEND):
        return None
    reading = read_conv(view)
    name = view.attribute("activation", "")
    if not name or not isinstance(reading.kind, Linear):
        return reading
    scales = name in ("Relu", "LeakyRelu")
    activation = Homogeneous(rectifies=name == "Relu") if scales else Opaque(nonlinear=True)
    return replace(reading, kind=replace(reading.kind, activation=activation))


READERS = {
    "FusedConv": read_fused_conv,
    "QuantizeLinear": read_rounding,
    "DequantizeLinear": read_rounding,
}
