"""Convolutions and transposed ones of one to three spatial axes, batched or not."""

from __future__ import annotations

from bnfold.algebra.weights import WeightLayout
from bnfold.constants import Obstacle
from bnfold.formats.torch.graph.operators.view import CallView, Reading, is_float
from bnfold.kinds import Geometry, Linear, Opaque


def read(view: CallView) -> Reading:
    """conv1d, conv2d, conv3d, the transposed ones, convolution and _convolution."""
    weight, bias = view.constant("weight"), view.constant("bias")
    computed_bias = view.tensor("bias") is not None and bias is None
    if weight is None or not is_float(weight.dtype) or computed_bias:
        return computed_weight(view, "input", "weight", "bias")
    kernel = weight.shape[2:]
    groups = int(view.get("groups"))
    transposed = bool(view.get("transposed", "transpose" in view.op))
    layout = WeightLayout.conv_transpose if transposed else WeightLayout.conv
    geometry = _geometry(view, kernel, groups, transposed=transposed)
    rank = view.fake("input").ndim
    kind = Linear(
        layout=layout(weight.shape, groups),
        weight=weight,
        bias=bias,
        out_axis=rank - len(kernel) - 1,
        in_axis=rank - len(kernel) - 1,
        rank=rank,
        every_tap_everywhere=_every_tap(kernel, geometry),
        geometry=geometry,
    )
    return Reading(kind, (view.flow("input"),))


def computed_weight(view: CallView, *names: str) -> Reading:
    """A linear operator whose weight is not known: opaque, and the reason is named."""
    nodes = [view.tensor(name) for name in names]
    flows = tuple(n for n in nodes if n is not None and view.constants.find(n) is None)
    return Reading(Opaque(obstacle=Obstacle("COMPUTED_WEIGHT")), flows)


def _geometry(
    view: CallView, kernel: tuple[int, ...], groups: int, *, transposed: bool
) -> Geometry | None:
    """None where strides or paddings depend on sizes."""
    spatial = len(kernel)
    strides, dilations = view.ints("stride", spatial), view.ints("dilation", spatial)
    grown = view.ints("output_padding", spatial) if "output_padding" in view.arguments else [0]
    if strides is None or dilations is None or grown is None or (transposed and any(grown)):
        return None
    pads = _pads(view, [step * (n - 1) for step, n in zip(dilations, kernel, strict=True)])
    if pads is None:
        return None
    begin, end = map(tuple, pads)
    return Geometry(groups, tuple(strides), tuple(dilations), begin, end, transposed)


def _pads(view: CallView, reach: list[int]) -> tuple[list[int], list[int]] | None:
    """Before and behind each axis; ``reach``: how far a kernel spans beyond one element.

    "same" takes a stride of one; an odd element goes behind the input.
    """
    named = view.get("padding")
    if named == "valid":
        return [0] * len(reach), [0] * len(reach)
    if named == "same":
        return [n // 2 for n in reach], [n - n // 2 for n in reach]
    pads = view.ints("padding", len(reach))
    return None if pads is None else (pads, pads)


def _every_tap(kernel: tuple[int, ...], geometry: Geometry | None) -> bool:
    if geometry is None or any(geometry.pads_begin + geometry.pads_end):
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
