"""Where values part and meet: Split, Slice, Concat, several readers, and sizes computed on the way."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import onnx
from onnx import TensorProto

from situations.build import Net, Table, ahead, back, both, keep

TABLE = Table()


def _split(norms: int, sizes: tuple[int, ...] = (2, 2), count: int = 2) -> onnx.ModelProto:
    net = Net()
    y = net.conv(net.input("N", 3, "H", "W"), 3, sum(sizes), (1, 1))
    net.op("Split", y, net.ints(*sizes), name="split", outputs=count, axis=1)
    names = ["split_out", *[f"split_out{i}" for i in range(1, count)]]
    ends = [
        net.relu(net.bn(name, size, f"bn{i}") if i < norms else name, f"relu{i}")
        for i, (name, size) in enumerate(zip(names, sizes, strict=True))
    ]
    return net.model(*ends)


TABLE.add({"bn0": back("conv")}, name="split_with_a_norm_on_one_part")(partial(_split, 1))
TABLE.add({"bn0": back("conv"), "bn1": back("conv")}, name="split_with_a_norm_on_each")(
    partial(_split, 2)
)
TABLE.add({f"bn{i}": back("conv") for i in range(3)}, name="split_in_unequal_parts")(
    partial(_split, 3, (1, 4, 2), 3)
)


@TABLE.add({"bn0": both("conv"), "bn1": keep("shared_value", "'first'")})
def overlapping_slices() -> onnx.ModelProto:
    """Each norm wants another map of the channel that both slices read; the first gets it."""
    net = Net()
    y = net.conv(net.input("N", 3, "H", "W"), 3, 4, (1, 1))
    parts = [
        net.op("Slice", y, net.ints(start), net.ints(start + 2), net.ints(1), name=name)
        for name, start in (("first", 0), ("second", 1))
    ]
    ends = [net.relu(net.bn(p, 2, f"bn{i}"), f"relu{i}") for i, p in enumerate(parts)]
    return net.model(*ends)


@TABLE.add({"bn0": back("conv"), "bn1": back("conv")})
def slices_side_by_side() -> onnx.ModelProto:
    net = Net()
    y = net.conv(net.input("N", 3, "H", "W"), 3, 4, (1, 1))
    parts = [
        net.op("Slice", y, net.ints(start), net.ints(start + 2), net.ints(1), name=name)
        for name, start in (("first", 0), ("second", 2))
    ]
    ends = [net.relu(net.bn(p, 2, f"bn{i}"), f"relu{i}") for i, p in enumerate(parts)]
    return net.model(*ends)


def _concat(axis: int, kinds: tuple[str, ...], channels: int) -> onnx.ModelProto:
    net = Net()
    x = net.input("N", 3, "H", "W")
    makers: dict[str, Callable[[int], str]] = {
        "conv": lambda i: net.conv(x, 3, 4, (1, 1), f"conv{i}"),
        "relu": lambda i: net.relu(net.conv(x, 3, 4, (1, 1), f"conv{i}"), f"relu{i}"),
        "shared": lambda i: net.conv(x, 3, 4, (1, 1), f"conv{i}"),
    }
    branches = [makers[kind](i) for i, kind in enumerate(kinds)]
    y = net.op("Concat", *branches, name="concat", axis=axis)
    ends = [net.relu(net.bn(y, channels), "end")]
    ends += [
        net.op("Sigmoid", b, name="gate")
        for b, k in zip(branches, kinds, strict=True)
        if k == "shared"
    ]
    return net.model(*ends)


TABLE.add({"bn": back("conv0", "conv1")}, name="concat_of_channels")(
    partial(_concat, 1, ("conv", "conv"), 8)
)
TABLE.add({"bn": back("conv0", "conv1")}, name="concat_of_channels_counted_from_the_end")(
    partial(_concat, -3, ("conv", "conv"), 8)
)
TABLE.add({"bn": back("conv0", "conv1")}, name="concat_of_rows")(
    partial(_concat, 2, ("conv", "conv"), 4)
)
TABLE.add({"bn": back("conv0", "conv1")}, name="concat_of_batches")(
    partial(_concat, 0, ("conv", "conv"), 4)
)
for _axis, _channels in ((1, 8), (2, 4), (0, 4)):
    TABLE.add(
        {"bn": keep("nonlinear_reader", "Relu 'end'")},
        name=f"concat_with_an_activation_on_axis_{_axis}",
    )(partial(_concat, _axis, ("conv", "relu"), _channels))
    TABLE.add(
        {"bn": keep("shared_value", "Sigmoid 'gate'")},
        name=f"concat_with_a_shared_branch_on_axis_{_axis}",
    )(partial(_concat, _axis, ("conv", "shared"), _channels))


@TABLE.add({"bn": back("conv", "concat")})
def concat_with_a_constant_branch() -> onnx.ModelProto:
    """A constant takes its part of the map as readily as a weight."""
    net = Net()
    y = net.conv(net.input(2, 3, 5, 5), 3, 4, (1, 1))
    y = net.op("Concat", y, net.weight(2, 2, 5, 5), name="concat", axis=1)
    return net.model(net.relu(net.bn(y, 6)))


@TABLE.add({"bn": ahead("conv")})
def forward_through_concat() -> onnx.ModelProto:
    net = Net()
    x = net.relu(net.input("N", 3, "H", "W"))
    y = net.op("Concat", net.bn(x, 3), net.op("Sigmoid", x, name="gate"), name="concat", axis=1)
    return net.model(net.conv(y, 6, 4))


@TABLE.add({"bn": keep("axis_mismatch", "Conv 'conv'")})
def forward_through_concat_of_rows() -> onnx.ModelProto:
    net = Net()
    x = net.input("N", 3, 4, 4)
    y, gate = net.bn(net.relu(x), 3), net.op("Sigmoid", x, name="gate")
    y = net.op("Concat", y, gate, name="concat", axis=2)
    return net.model(net.conv(y, 3, 4))


@TABLE.add({"bn": keep("unknown_shape")}, sizes=((0, 32), (0, 40), (0, 33)))
def forward_through_concat_with_zeros_of_computed_size() -> onnx.ModelProto:
    """As many rows of zeros as a multiple of 32 wants: none at the sizes one would try."""
    net = Net()
    y = net.bn(net.relu(net.input(1, 3, "H", "W")), 3)
    size = net.op("Shape", y, name="size")
    rows, cols = (
        net.op("Slice", size, net.ints(i), net.ints(i + 1), name=f"size{i}") for i in (2, 3)
    )
    rest = net.op("Mod", net.op("Neg", rows, name="minus"), net.ints(32), name="rest")
    shape = net.op("Concat", net.ints(1, 3), rest, cols, name="shape", axis=0)
    zeros = net.op("ConstantOfShape", shape, name="zeros")
    return net.model(net.conv(net.op("Concat", y, zeros, name="concat", axis=2), 3, 4))


@TABLE.add({"bn": ahead("gemm")}, sizes=((1, 0), (3, 0)))
def forward_through_flatten_of_a_map() -> onnx.ModelProto:
    net = Net()
    y = net.bn(net.relu(net.input("N", 3, 2, 4)), 3)
    y = net.op("Flatten", y, name="flatten")
    return net.model(net.op("Gemm", y, net.weight(24, 5), net.weight(5), name="gemm"))


@TABLE.add({"bn": ahead("conv_a", "conv_b")})
def forward_into_several_readers() -> onnx.ModelProto:
    net = Net()
    y = net.bn(net.relu(net.input("N", 3, "H", "W")), 3)
    return net.model(net.conv(y, 3, 4, name="conv_a"), net.conv(y, 3, 2, (1, 1), name="conv_b"))


@TABLE.add({"bn": keep("padded_reader", "Conv 'conv_b'")})
def forward_into_several_readers_of_which_one_pads() -> onnx.ModelProto:
    net = Net()
    y = net.bn(net.relu(net.input("N", 3, "H", "W")), 3)
    b = net.conv(y, 3, 2, name="conv_b", pads=[1, 1, 1, 1])
    return net.model(net.conv(y, 3, 4, name="conv_a"), b)


@TABLE.add({"bn": back("matmul")}, after="MatMul Add Shape Reshape Reshape Relu")
def levit() -> onnx.ModelProto:
    """MatMul -> Flatten(0, 1) -> BN -> Reshape to what Shape says, as LeViT does."""
    net = Net()
    y = net.op("MatMul", net.input("N", "T", 6), net.weight(6, 4), name="matmul")
    flat = net.op("Reshape", y, net.ints(-1, 4), name="flatten")
    size = net.op("Shape", y, name="size")
    return net.model(net.relu(net.op("Reshape", net.bn(flat, 4), size, name="restore")))


@TABLE.add({"bn": keep("mixed_channels", "Reshape 'pairs'")}, sizes=((2, 0), (4, 0), (6, 0)))
def periodic_along_the_batch() -> onnx.ModelProto:
    """Two channels out of rows of three: the map depends on the row, which no constant may."""
    net = Net()
    y = net.op("Add", net.relu(net.input("N", 3)), net.weight(1, 3), name="add")
    y = net.op("Reshape", y, net.ints(-1, 2), name="pairs")
    y = net.bn(y, 2, scale=1.0, variance=1.0, epsilon=0.0)
    return net.model(net.op("Exp", y, name="exp"))


@TABLE.add({"bn": keep("nonlinear_reader", "Relu 'relu'")}, doubles=False, sizes=((1, 8), (2, 12)))
def scales_of_a_resize_are_computed() -> onnx.ModelProto:
    """The division belongs to the scales of Resize: it is no affine that may go."""
    net = Net()
    x = net.input("N", 3, "H", "W")
    rows = net.op("Slice", net.op("Shape", x, name="size"), net.ints(2), net.ints(3), name="rows")
    rows = net.op("Cast", rows, name="cast", to=TensorProto.FLOAT)
    factor = net.op("Div", rows, net.const(np.array([16.0])), name="div")
    scales = net.op("Concat", net.const(np.ones(2)), factor, factor, name="scales", axis=0)
    y = net.op("Resize", x, "", scales, name="resize", mode="nearest")
    return net.model(net.relu(net.bn(net.op("Softmax", y, name="softmax"), 3)))


@TABLE.add({"bn": keep("across_regions", "Concat 'concat'")})
def concat_of_a_value_with_itself() -> onnx.ModelProto:
    net = Net()
    y = net.conv(net.input("N", 3, "H", "W"), 3, 4, (1, 1))
    y = net.op("Concat", y, y, name="concat", axis=1)
    return net.model(net.relu(net.bn(y, 8)))


@TABLE.add({"bn": ahead("conv")})
def forward_through_concat_of_a_value_with_itself() -> onnx.ModelProto:
    net = Net()
    y = net.bn(net.relu(net.input("N", 3, "H", "W")), 3)
    return net.model(net.conv(net.op("Concat", y, y, name="concat", axis=1), 6, 4))


@TABLE.add({"bn": ahead("conv")})
def forward_of_a_shift_through_a_value_twice_and_once_less() -> onnx.ModelProto:
    """x + x - y: the shift arrives twice, and once with the other sign."""
    net = Net()
    x = net.relu(net.input("N", 3, "H", "W"))
    y = net.bn(x, 3, scale=1.0, variance=1.0, epsilon=0.0)
    y = net.op("Sub", x, net.op("Add", y, y, name="double"), name="difference")
    return net.model(net.conv(y, 3, 4))


@TABLE.add({}, affines={"scale": back("conv"), "lift": back("conv")})
def gather_of_the_last_of_the_batch() -> onnx.ModelProto:
    net = Net()
    y = net.conv(net.input("N", 3, "H", "W"), 3, 4, (1, 1))
    y = net.op("Gather", y, net.const(np.array(-1)), name="gather", axis=0)
    y = net.op("Mul", y, net.weight(4, 1, 1), name="scale")
    return net.model(net.relu(net.op("Add", y, net.weight(4, 1, 1), name="lift")))
