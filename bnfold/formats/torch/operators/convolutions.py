"""Convolutions and transposed ones of one to three spatial axes, batched or not."""

from __future__ import annotations

from bnfold.algebra.weights import WeightLayout
from bnfold.formats.torch.operators.view import CallView, Reading, is_float
from bnfold.graph import Geometry, Linear, Obstacle, Opaque


def read(view: CallView) -> Reading:
    """conv1d, conv2d, conv3d, the transposed ones, convolution and _convolution."""
    weight, bias = view.constant("weight"), view.constant("bias")
    computed_bias = view.tensor("bias") is not None and bias is None
    if weight is None or not is_float(weight.dtype) or computed_bias:
        return computed_weight(view, "input", "weight", "bias")
    spatial = len(weight.shape) - 2
    groups = int(view.get("groups"))
    transposed = bool(view.get("transposed", "transpose" in view.op))
    layout = WeightLayout.conv_transpose if transposed else WeightLayout.conv
    geometry = _geometry(view, spatial, groups, transposed)
    rank = view.fake("input").ndim
    kind = Linear(
        layout=layout(weight.shape, groups),
        weight=weight,
        bias=bias,
        out_axis=rank - spatial - 1,
        in_axis=rank - spatial - 1,
        rank=rank,
        every_tap_everywhere=_every_tap(view, weight.shape[2:], geometry),
        geometry=geometry,
    )
    return Reading(kind, (view.flow("input"),))


def computed_weight(view: CallView, *names: str) -> Reading:
    """A linear operator whose weight is not known: opaque, and the reason is named."""
    nodes = [view.tensor(name) for name in names]
    flows = tuple(n for n in nodes if n is not None and view.constants.find(n) is None)
    return Reading(Opaque(obstacle=Obstacle("COMPUTED_WEIGHT")), flows)


def _geometry(view: CallView, spatial: int, groups: int, transposed: bool) -> Geometry | None:
    """None where paddings or strides are given by name or depend on sizes."""
    if view.get("padding") == "valid":
        pads: list[int] | None = [0] * spatial
    else:
        pads = view.ints("padding", spatial)
    strides, dilations = view.ints("stride", spatial), view.ints("dilation", spatial)
    grown = view.ints("output_padding", spatial) if "output_padding" in view.arguments else [0]
    if pads is None or strides is None or dilations is None or grown is None:
        return None
    if transposed and any(grown):
        return None
    return Geometry(groups, tuple(strides), tuple(dilations), tuple(pads), tuple(pads), transposed)


def _every_tap(view: CallView, kernel: tuple[int, ...], geometry: Geometry | None) -> bool:
    if geometry is None:
        return view.get("padding") == "same" and all(n == 1 for n in kernel)
    if any(geometry.pads_begin):
        return False
    return not geometry.transposed or all(n == 1 for n in kernel + geometry.strides)


READERS = dict.fromkeys(
    (
        "conv1d",
        "conv2d",
        "conv3d",
        "conv_transpose1d",
        "conv_transpose2d",
        "conv_transpose3d",
        "convolution",
        "_convolution",
    ),
    read,
)
