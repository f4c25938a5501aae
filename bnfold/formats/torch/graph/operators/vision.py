"""Operators of torchvision that are layers."""

from __future__ import annotations

from bnfold.algebra.weights import WeightLayout
from bnfold.formats.torch.graph.operators.convolutions import computed_weight
from bnfold.formats.torch.graph.operators.view import CallView, Reading, is_float
from bnfold.kinds import Linear

NAMESPACE = "torchvision"


def read_deformed(view: CallView) -> Reading:
    """A convolution that reads between pixels, where computed offsets say: linear in what it reads.

    Outside of the map it reads zeros, so that no shift may enter it.
    """
    weight, bias = view.constant("weight"), view.constant("bias")
    if weight is None or bias is None or not is_float(weight.dtype):
        return computed_weight(view, "input", "weight", "offset", "mask", "bias")
    layout = WeightLayout.conv(weight.shape, int(view.get("groups")))
    kind = Linear(layout, weight, bias, out_axis=1, in_axis=1, rank=4, every_tap_everywhere=False)
    steering = (n for n in map(view.tensor, ("offset", "mask")) if n is not None)
    computed = (n for n in steering if not view.constants.is_known(n))
    return Reading(kind, (view.flow("input"), *computed))


READERS = {"deform_conv2d": read_deformed}
