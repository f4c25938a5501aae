"""Conv and ConvTranspose of any number of spatial axes, with groups, strides and dilations."""

from __future__ import annotations

from bnfold.algebra.weights import WeightLayout
from bnfold.formats.onnx.operators.view import NodeView, Reading, is_float
from bnfold.graph import Geometry, Linear, Obstacle, Opaque


def read_conv(view: NodeView) -> Reading:
    return _read(view, transposed=False)


def read_conv_transpose(view: NodeView) -> Reading:
    return _read(view, transposed=True)


def _read(view: NodeView, *, transposed: bool) -> Reading:
    weight, bias = view.constant(1), view.constant(2)
    if weight is None or not is_float(weight.dtype) or (view.name(2) and bias is None):
        names = tuple(n for i, n in enumerate(view.proto.input) if n and not view.constant(i))
        return Reading(Opaque(obstacle=Obstacle("COMPUTED_WEIGHT")), names)
    groups = int(view.attribute("group", 1))
    spatial = len(weight.shape) - 2
    layout = (WeightLayout.conv_transpose if transposed else WeightLayout.conv)(
        weight.shape, groups
    )
    pads = view.ints("pads") or [0] * (2 * spatial)
    geometry = Geometry(
        groups=groups,
        strides=tuple(view.ints("strides") or [1] * spatial),
        dilations=tuple(view.ints("dilations") or [1] * spatial),
        pads_begin=tuple(pads[:spatial]),
        pads_end=tuple(pads[spatial:]),
        transposed=transposed,
    )
    kind = Linear(
        layout=layout,
        weight=weight,
        bias=bias,
        out_axis=1,
        in_axis=1,
        rank=spatial + 2,
        every_tap_everywhere=_every_tap(view, weight.shape[2:], geometry),
        geometry=geometry if view.attribute("auto_pad", "NOTSET") == "NOTSET" else None,
    )
    return Reading(kind, (view.name(0),))


def _every_tap(view: NodeView, kernel: tuple[int, ...], geometry: Geometry) -> bool:
    auto_pad = view.attribute("auto_pad", "NOTSET")
    padded = auto_pad == "NOTSET" and any(geometry.pads_begin + geometry.pads_end)
    if padded or auto_pad not in ("NOTSET", "VALID", ""):
        return False
    if not geometry.transposed:
        return True
    settings = view.ints("output_padding") + view.ints("output_shape")
    return all(n == 1 for n in kernel + geometry.strides) and not any(settings)


READERS = {"Conv": read_conv, "ConvTranspose": read_conv_transpose}
