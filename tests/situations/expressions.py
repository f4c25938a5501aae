"""Constant expressions as they are written at each operator set: attributes here, inputs there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from onnx import TensorProto

from situations.build import Net
from situations.run import RECENT

OPSETS = tuple(range(7, 25 if RECENT else 24))
Expression = Callable[[Net], str]
TABLE: dict[str, tuple[Expression, int]] = {}


def since(opset: int) -> Callable[[Expression], Expression]:
    """Enters an expression into the table, from the operator set on that knows it."""

    def enter(make: Expression) -> Expression:
        TABLE[make.__name__] = make, opset
        return make

    return enter


def setting(net: Net, op: str, x: str, opset: int, name: str, **values: Any) -> str:
    """A node whose settings are attributes below ``opset`` and inputs from there on."""
    if net.opset < opset:
        return net.op(op, x, name=name, **values)
    inputs = [
        net.const(np.array(v, np.int64 if isinstance(v, list) else None)) for v in values.values()
    ]
    return net.op(op, x, *inputs, name=name)


def weight(net: Net) -> str:
    return net.weight(4, 3, 2)


def unary(op: str, **attributes: Any) -> Expression:
    def make(net: Net) -> str:
        return net.op(op, weight(net), name="c", **attributes)

    return make


for _op in ("Softmax", "LogSoftmax", "Hardmax"):
    TABLE[_op] = unary(_op, axis=1), 7
    TABLE[f"{_op} by default"] = unary(_op), 7
for _op in "Exp Neg Abs Tanh Sigmoid Relu Floor Identity GlobalMaxPool GlobalAveragePool".split():
    TABLE[_op] = unary(_op), 7
TABLE["Transpose"] = unary("Transpose", perm=[2, 0, 1]), 7
TABLE["Flatten"] = unary("Flatten", axis=2), 7
TABLE["LRN"] = (lambda net: net.op("LRN", net.weight(1, 3, 2, 2), name="c", size=3)), 7
TABLE["InstanceNormalization"] = (
    lambda net: net.op(
        "InstanceNormalization", net.weight(2, 3, 4), net.weight(3), net.weight(3), name="c"
    ),
    7,
)


@since(7)
def squeeze(net: Net) -> str:
    return setting(net, "Squeeze", net.weight(4, 1, 1, 3), 13, "c", axes=[2])


@since(7)
def squeeze_all(net: Net) -> str:
    return net.op("Squeeze", net.weight(4, 1, 1, 3), name="c")


@since(7)
def unsqueeze(net: Net) -> str:
    return setting(net, "Unsqueeze", weight(net), 13, "c", axes=[0, 3])


@since(7)
def reshape_by_a_shape(net: Net) -> str:
    """The target is computed: the first size of another tensor, then whatever is left."""
    size = net.op(
        "Gather", net.op("Shape", net.weight(6, 5), name="s"), net.const(np.array([0])), name="g"
    )
    target = net.op("Concat", size, net.const(np.array([-1])), name="t", axis=0)
    return net.op("Reshape", weight(net), target, name="c")


@since(7)
def concat(net: Net) -> str:
    return net.op("Concat", weight(net), weight(net), name="c", axis=1)


@since(7)
def sliced(net: Net) -> str:
    return setting(net, "Slice", weight(net), 10, "c", starts=[1, 0], ends=[9, 1], axes=[0, 2])


@since(7)
def padded(net: Net) -> str:
    return setting(net, "Pad", weight(net), 11, "c", pads=[0, 1, 0, 2, 0, 1], value=0.5)


@since(7)
def clipped(net: Net) -> str:
    if net.opset < 11:
        return net.op("Clip", weight(net), name="c", min=-0.25, max=0.5)
    return net.op("Clip", weight(net), net.const(-0.25), net.const(0.5), name="c")


@since(7)
def cast_to_integers(net: Net) -> str:
    return net.op("Cast", weight(net), name="c", to=TensorProto.INT64)


@since(7)
def cast_to_half(net: Net) -> str:
    return net.op("Cast", weight(net), name="c", to=TensorProto.FLOAT16)


@since(13)
def cast_to_bfloat16(net: Net) -> str:
    return net.op("Cast", weight(net), name="c", to=TensorProto.BFLOAT16)


@since(7)
def frozen_norm(net: Net) -> str:
    """gamma / sqrt(variance + epsilon), as a frozen BatchNorm computes it."""
    deviation = net.op(
        "Sqrt", net.op("Add", net.weight(4, low=0.1), net.const(1e-5), name="a"), name="q"
    )
    return net.op("Div", net.weight(4), deviation, name="c")


@since(7)
def power(net: Net) -> str:
    return net.op("Pow", net.weight(4, 3, low=0.1), net.const(-0.5), name="c")


@since(7)
def broadcast(net: Net) -> str:
    return net.op(
        "Sub",
        net.op("Mul", net.weight(4, 1), net.weight(3), name="m"),
        net.weight(2, 1, 1),
        name="c",
    )


@since(7)
def mean(net: Net) -> str:
    return setting(net, "ReduceMean", weight(net), 18, "c", axes=[1])


@since(7)
def total(net: Net) -> str:
    return setting(net, "ReduceSum", weight(net), 13, "c", axes=[-2] if net.opset >= 11 else [1])


@since(7)
def gathered(net: Net) -> str:
    last = -1 if net.opset >= 11 else 3
    return net.op("Gather", weight(net), net.const(np.array([last, 0])), name="c", axis=0)


@since(7)
def gathered_one(net: Net) -> str:
    return net.op("Gather", weight(net), net.const(np.array(1)), name="c", axis=1)


@since(8)
def expanded(net: Net) -> str:
    return net.op("Expand", net.weight(3, 1), net.const(np.array([2, 3, 4])), name="c")


@since(7)
def tiled(net: Net) -> str:
    return net.op("Tile", weight(net), net.const(np.array([1, 2, 3])), name="c")


@since(9)
def filled(net: Net) -> str:
    return net.op("ConstantOfShape", net.op("Shape", weight(net), name="s"), name="c")


@since(9)
def chosen(net: Net) -> str:
    mask = net.op("Greater", weight(net), net.const(0.0), name="m")
    return net.op("Where", mask, weight(net), net.const(-1.0), name="c")


@since(11)
def counted(net: Net) -> str:
    return net.op("Range", *(net.const(np.array(i)) for i in (2, 20, 3)), name="c")


@since(7)
def divided(net: Net) -> str:
    return net.op("Div", net.const(np.array([-7, 7, 9])), net.const(np.array([2, -2, 4])), name="c")


@since(7)
def split(net: Net) -> str:
    x = net.weight(6, 2)
    if net.opset < 13:
        return net.op("Split", x, name="c", outputs=2, axis=0, split=[2, 4])
    return net.op("Split", x, net.const(np.array([2, 4])), name="c", outputs=2, axis=0)


@since(7)
def multiplied(net: Net) -> str:
    return net.op(
        "Gemm", net.weight(3, 4), net.weight(5, 4), net.weight(5), name="c", transB=1, alpha=0.5
    )


@since(7)
def product(net: Net) -> str:
    return net.op("MatMul", net.weight(2, 3, 4), net.weight(4, 5), name="c")


@since(7)
def grouped_transposed(net: Net) -> str:
    return net.op(
        "ConvTranspose", net.weight(1, 4, 5), net.weight(4, 3, 2), name="c", group=2, strides=[2]
    )


@since(7)
def pooled(net: Net) -> str:
    return net.op("AveragePool", net.weight(1, 2, 5), name="c", kernel_shape=[3], pads=[1, 1])


@since(7)
def depth(net: Net) -> str:
    return net.op("DepthToSpace", net.weight(1, 8, 2, 3), name="c", blocksize=2)


@since(7)
def resized(net: Net) -> str:
    x, scales = net.weight(1, 2, 3, 3), np.array([1, 1, 2, 2], np.float32)
    if net.opset < 9:
        return net.op("Upsample", x, name="c", mode="nearest", scales=scales.tolist())
    if net.opset < 10:
        return net.op("Upsample", x, net.const(scales), name="c", mode="linear")
    roi = [] if net.opset == 10 else [net.const(np.zeros(8)) if net.opset < 13 else ""]
    return net.op("Resize", x, *roi, net.const(scales), name="c", mode="linear")


@since(10)
def dequantised(net: Net) -> str:
    x = net.const(np.arange(-6, 6).reshape(4, 3), dtype=np.int8)
    if net.opset < 13:
        return net.op("DequantizeLinear", x, net.const(0.5), net.const(3, dtype=np.int8), name="c")
    scale, zero = net.weight(4, low=0.1), net.const([0, 1, 2, 3], dtype=np.int8)
    return net.op("DequantizeLinear", x, scale, zero, name="c", axis=0)


@since(12)
def contracted(net: Net) -> str:
    return net.op("Einsum", net.weight(2, 3), net.weight(3, 4), name="c", equation="ij,jk->ki")


@since(9)
def found(net: Net) -> str:
    """How many there are depends on the elements."""
    return net.op("NonZero", net.const(np.array([0.0, 1.0, 0.0, 2.0])), name="c")


@since(7)
def large(net: Net) -> str:
    """More than is computed ahead."""
    x = net.op(
        "Mul", net.weight(300, 200), net.op("Sqrt", net.weight(200, low=0), name="q"), name="m"
    )
    return net.op("Transpose", x, name="c", perm=[1, 0])


@since(7)
def mean_of_large(net: Net) -> str:
    return setting(net, "ReduceMean", large(net), 18, "d", axes=[0])
