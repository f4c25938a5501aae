"""Conv and ConvTranspose of any number of spatial axes, with groups, strides and dilations."""

from __future__ import annotations

from bnfold.algebra.weights import WeightLayout
from bnfold.constants import Obstacle
from bnfold.formats.onnx.graph.operators.quantisation import in_steps
from bnfold.formats.onnx.graph.operators.view import NodeView, Reading, is_float
from bnfold.kinds import Geometry, Linear, Opaque


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
    _check(view, weight.shape, groups)
    layout = (WeightLayout.conv_transpose if transposed else WeightLayout.conv)(
        weight.shape, groups
    )
    if bias is not None:
        view.require(bias.shape == (layout.outputs,), f"has a bias of shape {bias.shape}")
    kernel = weight.shape[2:]
    geometry = _geometry(view, kernel, groups, transposed=transposed)
    kind = Linear(
        layout=layout,
        weight=weight,
        bias=in_steps(view, weight, bias, 1 if transposed else 0),
        out_axis=1,
        in_axis=1,
        rank=len(weight.shape),
        every_tap_everywhere=_every_tap(view, kernel, geometry),
        geometry=geometry,
    )
    return Reading(kind, (view.name(0),))


def read_deformed(view: NodeView) -> Reading:
    """A convolution that reads between pixels, where computed offsets say: linear in what it reads.

    Outside of the map it reads zeros, so that no shift may enter it.
    """
    weight, bias = view.constant(1), view.constant(3)
    if weight is None or not is_float(weight.dtype) or (view.name(3) and bias is None):
        names = tuple(n for i, n in enumerate(view.proto.input) if n and not view.constant(i))
        return Reading(Opaque(obstacle=Obstacle("COMPUTED_WEIGHT")), names)
    groups = int(view.attribute("group", 1))
    _check(view, weight.shape, groups)
    layout = WeightLayout.conv(weight.shape, groups)
    if bias is not None:
        view.require(bias.shape == (layout.outputs,), f"has a bias of shape {bias.shape}")
    kind = Linear(layout, weight, bias, out_axis=1, in_axis=1, rank=4, every_tap_everywhere=False)
    steering = (view.name(i) for i in (2, 4) if view.name(i) and view.constant(i) is None)
    return Reading(kind, (view.name(0), *steering))


def _check(view: NodeView, shape: tuple[int, ...], groups: int) -> None:
    view.require(len(shape) > 2, f"has a weight of shape {shape}, without spatial axes")
    view.require(shape[0] % groups == 0, f"has a weight of shape {shape} for {groups} groups")
    for name, each in (("strides", 1), ("dilations", 1), ("pads", 2), ("kernel_shape", 1)):
        due, found = each * (len(shape) - 2), len(view.ints(name))
        view.require(found in (0, due), f"has {found} {name} where {due} are due")


def _geometry(
    view: NodeView, kernel: tuple[int, ...], groups: int, *, transposed: bool
) -> Geometry | None:
    pads, spatial = _pads(view, kernel, transposed=transposed), len(kernel)
    if pads is None:
        return None
    return Geometry(
        groups=groups,
        strides=tuple(view.ints("strides") or [1] * spatial),
        dilations=tuple(view.ints("dilations") or [1] * spatial),
        pads_begin=tuple(pads[:spatial]),
        pads_end=tuple(pads[spatial:]),
        transposed=transposed,
    )


def _pads(view: NodeView, kernel: tuple[int, ...], *, transposed: bool) -> list[int] | None:
    """Before and behind each axis; None where that depends on the size of the input.

    With a stride of one, SAME means that the output is as large as the input, whatever that is. An
    odd element goes behind the input (SAME_UPPER) or before it (SAME_LOWER).
    """
    how = view.attribute("auto_pad", "NOTSET")
    if how in ("NOTSET", ""):
        return view.ints("pads") or [0] * (2 * len(kernel))
    if how == "VALID":
        return [0] * (2 * len(kernel))
    slides = view.ints("strides") + view.ints("dilations")
    if how not in ("SAME_UPPER", "SAME_LOWER") or transposed or any(n != 1 for n in slides):
        return None
    less, more = [(n - 1) // 2 for n in kernel], [n // 2 for n in kernel]
    return less + more if how == "SAME_UPPER" else more + less


def _every_tap(view: NodeView, kernel: tuple[int, ...], geometry: Geometry | None) -> bool:
    if geometry is None or any(geometry.pads_begin + geometry.pads_end):
        return False
    if not geometry.transposed:
        return True
    settings = view.ints("output_padding") + view.ints("output_shape")
    return all(n == 1 for n in kernel + geometry.strides) and not any(settings)


READERS = {
    "Conv": read_conv,
    "ConvTranspose": read_conv_transpose,
    "DeformConv": read_deformed,
}
