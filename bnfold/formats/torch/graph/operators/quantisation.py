"""Operators that round values to a grid: quantisation, and its imitation while a network is trained."""

from __future__ import annotations

from torch.fx import Node as Call

from bnfold.constants import Obstacle
from bnfold.formats.torch.graph.arguments import nodes_in
from bnfold.formats.torch.graph.operators.view import CallView, Reading, is_tensor
from bnfold.kinds import Opaque

NAMESPACE = "quantized_decomposed"


def read_rounding(view: CallView) -> Reading:
    """Of computed values: a constant one is no node."""

    def flows(call: Call) -> bool:
        return is_tensor(call) and not view.constants.is_known(call)

    inputs = (view.node.args, view.node.kwargs)
    found = tuple(call for call in nodes_in(inputs) if flows(call))
    return Reading(Opaque(obstacle=Obstacle("QUANTIZED_VALUE")), found)


READERS = dict.fromkeys(
    (
        "fake_quantize_per_tensor_affine",
        "fake_quantize_per_channel_affine",
        "fake_quantize_per_tensor_affine_cachemask",
        "fake_quantize_per_channel_affine_cachemask",
        "_fake_quantize_per_tensor_affine_cachemask_tensor_qparams",
        "_fake_quantize_learnable_per_tensor_affine",
        "_fake_quantize_learnable_per_channel_affine",
    ),
    read_rounding,
)
DECOMPOSED = dict.fromkeys(
    (
        *("quantize_per_tensor", "quantize_per_channel", "quantize_per_token"),
        *("dequantize_per_tensor", "dequantize_per_channel", "dequantize_per_token"),
    ),
    read_rounding,
)
