"""Sums whose weights or places are computed: attention, gathering, masks; beside what must not pass them."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto

from situations.build import Net, Table, ahead, back, both, keep

TABLE = Table()
_NO_SHIFT: dict[str, Any] = {"shift": 0.0, "mean": 0.0}


def _attention(axis: int | None, opset: int = 17, *, columns: bool = False) -> onnx.ModelProto:
    """Weights from the input, values from a convolution, a norm behind; ``axis`` of the softmax."""
    net = Net(opset)
    x = net.input("N", 4, 5)
    score = net.op("MatMul", net.op("Transpose", x, name="flip", perm=[0, 2, 1]), x, name="score")
    weights = score if axis is None else net.op("Softmax", score, name="softmax", axis=axis)
    values = net.conv(x, 4, 4, (1,), "values")
    if columns:
        mixed = net.op("MatMul", values, weights, name="mix")
    else:
        turned = net.op("Transpose", values, name="turn", perm=[0, 2, 1])
        mixed = net.op("MatMul", weights, turned, name="mix")
        mixed = net.op("Transpose", mixed, name="back", perm=[0, 2, 1])
    return net.model(net.op("Sigmoid", net.bn(mixed, 4), name="end"))


@TABLE.add({"bn": back("values")})
def attention_behind_a_softmax() -> onnx.ModelProto:
    """The rows of a softmax sum to one: a shift of the values is a shift of what is mixed of them."""
    return _attention(-1)


@TABLE.add({"bn": back("values")}, doubles=False)
def attention_with_a_softmax_of_old() -> onnx.ModelProto:
    return _attention(2, opset=12)


@TABLE.add({"bn": keep("computed_weight", "mix")}, doubles=False)
def attention_with_a_softmax_over_two_axes() -> onnx.ModelProto:
    """Before operator set 13, all axes from there on are one."""
    return _attention(1, opset=12)


@TABLE.add({"bn": keep("computed_weight", "mix")})
def attention_with_a_softmax_over_the_other_axis() -> onnx.ModelProto:
    return _attention(1)


@TABLE.add({"bn": keep("computed_weight", "mix")})
def attention_without_a_softmax() -> onnx.ModelProto:
    return _attention(None)


@TABLE.add({"bn": back("values")})
def attention_from_the_right() -> onnx.ModelProto:
    return _attention(1, columns=True)


@TABLE.add({"bn": keep("computed_weight", "mix")})
def attention_from_the_right_over_the_other_axis() -> onnx.ModelProto:
    return _attention(2, columns=True)


@TABLE.add({"bn": keep("mixed_channels", "mix")})
def attention_that_mixes_channels() -> onnx.ModelProto:
    net = Net()
    x = net.input("N", 4, 5)
    score = net.op("MatMul", x, net.op("Transpose", x, name="flip", perm=[0, 2, 1]), name="score")
    weights = net.op("Softmax", score, name="softmax", axis=-1)
    mixed = net.op("MatMul", weights, net.conv(x, 4, 4, (1,), "values"), name="mix")
    return net.model(net.op("Sigmoid", net.bn(mixed, 4), name="end"))


@TABLE.add({"bn": back("conv")}, sizes=((1, 6), (2, 7)))
def picked_by_computed_indices() -> onnx.ModelProto:
    net = Net()
    y = net.conv(net.input("N", 3, "T"), 3, 4, (1,))
    picked = net.op("Gather", y, net.input(4, name="i", dtype=TensorProto.INT64), name="g", axis=2)
    return net.model(net.bn(picked, 4))


@TABLE.add({"bn": keep("mixed_channels", "g")}, sizes=((1, 6), (2, 7)))
def channels_picked_by_computed_indices() -> onnx.ModelProto:
    net = Net()
    y = net.conv(net.input("N", 3, "T"), 3, 4, (1,))
    picked = net.op("Gather", y, net.input(4, name="i", dtype=TensorProto.INT64), name="g", axis=1)
    return net.model(net.bn(picked, 4))


@TABLE.add({"bn": back("conv")})
def picked_element_by_element() -> onnx.ModelProto:
    net = Net()
    y = net.conv(net.input(2, 3, 6), 3, 4, (1,))
    indices = net.const(np.random.default_rng(0).integers(0, 6, (2, 4, 3)))
    return net.model(net.bn(net.op("GatherElements", y, indices, name="g", axis=2), 4))


@TABLE.add({"bn": keep("mixed_channels", "g")})
def channels_picked_element_by_element() -> onnx.ModelProto:
    net = Net()
    y = net.conv(net.input(2, 3, 6), 3, 4, (1,))
    indices = net.const(np.random.default_rng(0).integers(0, 4, (2, 4, 6)))
    return net.model(net.bn(net.op("GatherElements", y, indices, name="g", axis=1), 4))


@TABLE.add({"bn": back("conv")})
def picked_by_places() -> onnx.ModelProto:
    """GatherND takes whole images here."""
    net = Net()
    y = net.conv(net.input(3, 3, 6), 3, 4, (1,))
    places = net.const(np.array([[2], [0]]))
    return net.model(net.bn(net.op("GatherND", y, places, name="g"), 4))


def _masked(otherwise: float, *, turned: bool = False) -> onnx.ModelProto:
    """Pre-activation blocks with a mask in front of their convolutions."""
    net = Net()
    given = net.input("N", 3, "H", "W")
    limit = net.const(np.array(0.1))
    first = net.op("Slice", given, *map(net.ints, (0, 1, 1)), name="first")
    mask = net.op("Greater", first, limit, name="mask")
    other = net.const(np.array(otherwise))
    x = net.conv(given, 3, 4, (1, 1), "stem")
    for i, scale in enumerate(([0.7, 1.3, 0.9, 1.1], [1.2, 0.8, 1.4, 0.6])):
        y = net.relu(net.bn(x, 4, f"bn{i}", scale=np.array(scale)), f"relu{i}")
        y = net.op("Where", mask, *((other, y) if turned else (y, other)), name=f"where{i}")
        y = net.conv(y, 4, 4, (3, 3), f"conv{i}", pads=[1] * 4)
        x = net.op("Add", x, y, name=f"add{i}")
    return net.model(net.conv(x, 4, 2, (1, 1), "head"))


_BOTH = {"bn0": both("stem", "conv0"), "bn1": both("stem", "conv0", "conv1")}


@TABLE.add(_BOTH)
def zero_where_a_mask_says_so() -> onnx.ModelProto:
    return _masked(0.0)


@TABLE.add(_BOTH)
def zero_where_a_mask_does_not_say_so() -> onnx.ModelProto:
    return _masked(0.0, turned=True)


@TABLE.add({"bn0": both("stem", "conv0"), "bn1": keep("shared_value", "add1")})
def one_where_a_mask_says_so() -> onnx.ModelProto:
    """One norm can still be the scale of the trunk."""
    return _masked(1.0)


def _summed(**norm: Any) -> onnx.ModelProto:
    net = Net()
    x = net.op("Sigmoid", net.input("N", 4, 5, 5), name="start")
    total = net.op("ReduceSum", net.bn(x, 4, **norm), net.ints(2, 3), name="sum", keepdims=0)
    return net.model(net.op("Gemm", total, net.weight(4, 2), name="gemm"))


@TABLE.add({"bn": ahead("gemm")})
def a_scale_passes_a_sum_over_space() -> onnx.ModelProto:
    return _summed(**_NO_SHIFT)


@TABLE.add({"bn": keep("shift_blocked", "sum")})
def a_shift_does_not_pass_a_sum_over_space() -> onnx.ModelProto:
    return _summed()


def _resized(mode: str, *, sizes: bool) -> onnx.ModelProto:
    """Only the axes that are named change."""
    net = Net(18)
    y = net.conv(net.input(1, 3, 5, 4), 3, 4, (1, 1))
    empty, scales = "", net.const(np.array([2.0, 1.5], np.float32), dtype=np.float32)
    how = [empty, empty, net.ints(10, 6)] if sizes else [empty, scales]
    y = net.op("Resize", y, *how, name="resize", mode=mode, axes=[2, 3])
    return net.model(net.bn(y, 4))


@TABLE.add({"bn": back("conv")}, doubles=False)
def nearest_along_some_axes() -> onnx.ModelProto:
    return _resized("nearest", sizes=False)


@TABLE.add({"bn": back("conv")}, doubles=False)
def nearest_along_some_axes_to_a_size() -> onnx.ModelProto:
    return _resized("nearest", sizes=True)


@TABLE.add({"bn": back("conv")}, doubles=False)
def linear_along_some_axes() -> onnx.ModelProto:
    return _resized("linear", sizes=False)


@TABLE.add({"bn": back("conv")}, doubles=False)
def linear_along_some_axes_to_a_size() -> onnx.ModelProto:
    return _resized("linear", sizes=True)
