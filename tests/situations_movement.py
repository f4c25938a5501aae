"""Through operators that move elements about: what passes, beside what does not."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto

from situations_build import Net, Table, ahead, back, keep

TABLE = Table()
_EVEN = ((1, 8), (2, 4), (3, 16))

Step = Callable[[Net, str], str]


def _between(
    step: Step, channels: int = 4, before: int = 4, dims: tuple[int | str, ...] = ("N", 3, "H", "W"),
    kernel: tuple[int, ...] = (1, 1), opset: int = 17, **norm: Any,
) -> onnx.ModelProto:  # fmt: skip
    """conv -> step -> BN."""
    net = Net(opset=opset)
    y = net.conv(net.input(*dims), 3, before, kernel)
    return net.model(net.relu(net.bn(step(net, y), channels, **norm)))


def _ahead(
    step: Step, channels: int = 4, behind: int = 4, kernel: tuple[int, ...] = (1, 1),
    dims: tuple[int | str, ...] = ("N", 4, "H", "W"), **norm: Any,
) -> onnx.ModelProto:  # fmt: skip
    """relu -> BN -> step -> conv."""
    net = Net()
    y = net.bn(net.relu(net.input(*dims)), channels, **norm)
    return net.model(net.conv(step(net, y), behind, 5, kernel))


def _op(op: str, *settings: int, **attributes: Any) -> Step:
    return lambda net, y: net.op(
        op, y, *([net.ints(*settings)] if settings else []), name="step", **attributes
    )


def _flip(net: Net, y: str) -> str:
    return net.op(
        "Slice", y, net.ints(-1, 1), net.ints(-9, 99), net.ints(1, 3), net.ints(-1, 2), name="step"
    )


def _gather(net: Net, y: str, order: tuple[int, ...] = (3, 1, 0, 2)) -> str:
    return net.op("Gather", y, net.ints(*order), name="step", axis=1)


def _pad(net: Net, y: str, mode: str = "constant", value: float | None = None) -> str:
    more = [] if value is None else [net.const(np.float32(value))]
    return net.op("Pad", y, net.ints(0, 0, 1, 0, 0, 0, 2, 1), *more, name="step", mode=mode)


def _resize(net: Net, y: str, **attributes: Any) -> str:
    scales = net.const(np.array([1, 1, 2, 3], np.float32), dtype=np.float32)
    return net.op("Resize", y, "", scales, name="step", **attributes)


def shuffle(net: Net, y: str, groups: int = 2, channels: int = 4) -> str:
    """Channel shuffle as exporters write it: sizes come from Shape, Gather and Concat."""
    size = net.op("Shape", y, name="size")
    parts = [net.op("Gather", size, net.ints(i), name=f"part{i}", axis=0) for i in (0, 2, 3)]
    inner = net.op("Concat", parts[0], net.ints(groups, channels // groups), *parts[1:],
                   name="inner", axis=0)  # fmt: skip
    y = net.op("Transpose", net.op("Reshape", y, inner, name="split"), name="mix",
               perm=[0, 2, 1, 3, 4])  # fmt: skip
    return net.op("Reshape", y, size, name="join")


_SHUFFLE = "Conv Shape Gather Gather Gather Concat Reshape Transpose Reshape Relu"
_BOTH: dict[str, Step] = {
    "identity": _op("Identity"),
    "dropout": _op("Dropout"),
    "transpose_of_space": _op("Transpose", perm=[0, 1, 3, 2]),
    "slice_backwards": _flip,
    "gather_channels": _gather,
    "pad_edge": partial(_pad, mode="edge"),
    "pad_reflect": partial(_pad, mode="reflect"),
    "resize_nearest": _resize,
    "resize_nearest_ceil": partial(_resize, nearest_mode="ceil"),
    "channel_shuffle": shuffle,
}
for _name, _step in _BOTH.items():
    _exact = not _name.startswith("resize")  # its scales are float32 by definition
    TABLE.add({"bn": back("conv")}, name=f"through_{_name}", sizes=_EVEN, doubles=_exact)(
        partial(_between, _step)
    )
    TABLE.add({"bn": ahead("conv")}, name=f"forward_through_{_name}", sizes=_EVEN, doubles=_exact)(
        partial(_ahead, _step)
    )
TABLE.add({"bn": back("conv")}, name="through_pad_wrap", doubles=False, sizes=_EVEN)(
    lambda: _between(partial(_pad, mode="wrap"), opset=19)
)
TABLE.add({"bn": back("conv")}, name="through_pad_of_nothing")(
    partial(_between, _op("Pad", 0, 0, 0, 0, 0, 0, 0, 0))
)
TABLE.add({"bn": back("conv")}, name="through_pad_that_crops", doubles=False)(
    partial(_between, _op("Pad", 0, 0, -1, 0, 0, 0, 0, -2))
)
for _value in (None, 0.0, 0.5):
    TABLE.add({"bn": keep("shift_blocked", "Pad 'step'")}, name=f"pad_with_{_value}")(
        partial(_between, partial(_pad, value=_value))
    )
    TABLE.add({"bn": keep("shift_blocked", "Pad 'step'")}, name=f"forward_pad_with_{_value}")(
        partial(_ahead, partial(_pad, value=_value), kernel=(3, 3))
    )
TABLE.add({"bn": ahead("conv")}, name="forward_pad_without_shift")(
    partial(_ahead, _pad, kernel=(3, 3), shift=0.0, mean=0.0)
)


@TABLE.add({"bn": back("conv")})
def pad_with_a_fixed_point_of_the_norm() -> onnx.ModelProto:
    """Every channel maps 1 to 1, so a border of ones stays what it was."""
    net = Net()
    y = net.conv(net.input("N", 3, "H", "W"), 3, 4, (1, 1))
    y = net.op("Pad", y, net.ints(0, 0, 1, 1, 0, 0, 1, 1), net.const(np.float32(1)), name="pad")
    signs = [2.0, -1.0, 0.5, 1.0]
    vectors = {"scale": signs, "shift": 1 - np.array(signs), "mean": 0.0, "variance": 1.0}
    return net.model(net.relu(net.bn(y, 4, epsilon=0.0, **vectors)))


def pad_to_a_multiple(net: Net, y: str, of: int = 32) -> str:
    """Zero padding whose amount follows from the size: none at all at multiples of 32."""
    size = net.op("Slice", net.op("Shape", y, name="size"), net.ints(2), net.ints(4), name="hw")
    rest = net.op("Mod", net.op("Neg", size, name="minus"), net.ints(of), name="rest")
    amounts = net.op("Concat", net.ints(0, 0, 0, 0, 0, 0), rest, name="amounts", axis=0)
    return net.op("Pad", y, amounts, name="step")


_MULTIPLES = ((1, 32), (1, 40), (2, 33))
TABLE.add({"bn": keep("shift_blocked", "Pad 'step'")}, name="pad_to_a_multiple_of_32",
          sizes=_MULTIPLES)(partial(_between, pad_to_a_multiple))  # fmt: skip
TABLE.add({"bn": keep("shift_blocked", "Pad 'step'")}, name="forward_pad_to_a_multiple_of_32",
          sizes=_MULTIPLES)(partial(_ahead, pad_to_a_multiple, kernel=(3, 3)))  # fmt: skip


def _computed_axis(net: Net, y: str) -> str:
    rank = net.op("Shape", net.op("Shape", y, name="size"), name="rank")
    axis = net.op("Sub", rank, net.ints(3), name="axis")
    return net.op("Slice", y, net.ints(-1), net.ints(-9), axis, net.ints(-1), name="step")


TABLE.add({"bn": back("conv")}, name="slice_along_an_axis_that_is_computed")(
    partial(_between, _computed_axis)
)
TABLE.add({"bn": back("conv")}, name="slice_of_channels")(
    lambda: _between(
        lambda net, y: net.op("Slice", y, net.ints(1), net.ints(4), net.ints(1), name="step"),
        channels=3,
    )
)
TABLE.add({"bn": keep("mixed_channels", "Gather 'step'")}, name="gather_one_channel_twice")(
    lambda: _between(partial(_gather, order=(0, 0, 2)), channels=3, before=4)
)
TABLE.add({"bn": back("conv")}, name="flatten_of_a_fixed_map", sizes=((1, 0), (3, 0)))(
    lambda: _between(_op("Flatten"), channels=4, dims=("N", 3, 5, 5), kernel=(5, 5))
)
TABLE.add({"bn": keep("axis_mismatch", "Conv 'conv'")}, name="flatten_with_statistics_per_position",
          sizes=((1, 0), (3, 0)))(
    lambda: _between(_op("Flatten"), channels=16, dims=("N", 3, 2, 2))
)  # fmt: skip
TABLE.add({"bn": back("conv")}, name="reshape_to_a_vector_per_channel")(
    partial(_between, _op("Reshape", 0, 0, -1))
)
TABLE.add({"bn": back("conv")}, name="reshape_into_groups_of_channels", sizes=_EVEN)(
    partial(_between, _op("Reshape", 0, 2, -1), channels=2)
)
TABLE.add({"bn": back("conv")}, name="reshape_into_fixed_groups_of_channels", sizes=((1, 0), (2, 0)))(
    lambda: _between(_op("Reshape", 0, 2, 2, 9), channels=2, dims=("N", 3, 3, 3))
)
TABLE.add({"bn": keep("mixed_channels", "Reshape 'step'")}, name="reshape_that_cuts_channels",
          sizes=_EVEN)(partial(_between, _op("Reshape", 0, 8, -1), channels=8))  # fmt: skip
TABLE.add({"bn": keep("axis_mismatch", "Conv 'conv'")}, name="reshape_that_cuts_fixed_channels",
          sizes=((1, 0), (2, 0)))(
    lambda: _between(_op("Reshape", 0, 8, -1), channels=8, dims=("N", 3, 4, 4))
)  # fmt: skip
TABLE.add({"bn": back("conv")}, name="squeeze_and_unsqueeze", sizes=((1, 5), (2, 7)))(
    lambda: _between(
        lambda net, y: net.op(
            "Unsqueeze", net.op("Squeeze", y, net.ints(3), name="squeeze"), net.ints(2), name="step"
        ),
        dims=("N", 3, "L", 1),
    )
)
TABLE.add({"bn": back("conv")}, name="expand_over_space", sizes=((1, 0), (2, 0)))(
    lambda: _between(_op("Expand", 1, 4, 5, 6), dims=("N", 3, 1, 1))
)
TABLE.add({"bn": keep("mixed_channels", "Expand 'step'")}, name="expand_one_channel_to_four")(
    lambda: _between(_op("Expand", 1, 4, 1, 1), before=1)
)
TABLE.add({"bn": back("conv")}, name="tile_over_space")(partial(_between, _op("Tile", 1, 1, 2, 3)))
TABLE.add({"bn": keep("mixed_channels", "Tile 'step'")}, name="tile_over_channels")(
    lambda: _between(_op("Tile", 1, 2, 1, 1), channels=8)
)
for _mode in ("DCR", "CRD"):
    TABLE.add({"bn": back("conv")}, name=f"depth_to_space_{_mode}", sizes=_EVEN)(
        lambda mode=_mode: _between(_op("DepthToSpace", blocksize=2, mode=mode), channels=2, before=8)
    )
    TABLE.add({"bn": ahead("conv")}, name=f"forward_depth_to_space_{_mode}_one_scale", sizes=_EVEN)(
        lambda mode=_mode: _ahead(
            _op("DepthToSpace", blocksize=2, mode=mode), behind=1,
            scale=1.5, shift=0.5, mean=0.2, variance=2.0,
        )
    )  # fmt: skip
    TABLE.add({"bn": keep("mixed_channels", "'step'")}, name=f"forward_depth_to_space_{_mode}",
              sizes=_EVEN)(
        lambda mode=_mode: _ahead(_op("DepthToSpace", blocksize=2, mode=mode), behind=1)
    )  # fmt: skip
TABLE.add({"bn": keep("mixed_channels", "'step'")}, name="space_to_depth", sizes=_EVEN)(
    lambda: _between(_op("SpaceToDepth", blocksize=2), channels=16)
)
TABLE.add({"bn": back("conv")}, name="space_to_depth_one_scale", sizes=_EVEN)(
    lambda: _between(
        _op("SpaceToDepth", blocksize=2), channels=16, scale=1.5, shift=0.5, mean=0.2, variance=2.0
    )
)
TABLE.add({"bn": ahead("conv")}, name="forward_space_to_depth", sizes=_EVEN)(
    lambda: _ahead(_op("SpaceToDepth", blocksize=2), behind=16)
)


@TABLE.add({"bn": back("conv")})
def dropout_with_a_training_flag_of_false() -> onnx.ModelProto:
    net = Net()
    y = net.conv(net.input("N", 3, "H", "W"), 3, 4, (1, 1))
    ratio, flag = net.const(np.float32(0.5), dtype=np.float32), net.const(np.array(False))
    return net.model(net.relu(net.bn(net.op("Dropout", y, ratio, flag, name="drop"), 4)))


@TABLE.add({"bn": keep("opaque_producer", "Dropout 'drop'")}, doubles=False, runs=False)
def dropout_in_training() -> onnx.ModelProto:
    net = Net()
    y = net.conv(net.input("N", 3, "H", "W"), 3, 4, (1, 1))
    ratio, flag = net.const(np.float32(0.5), dtype=np.float32), net.const(np.array(True))
    return net.model(net.relu(net.bn(net.op("Dropout", y, ratio, flag, name="drop"), 4)))


# Several inputs or outputs


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


@TABLE.add({"bn0": keep("shared_value", "'second'"), "bn1": keep("shared_value", "'first'")})
def overlapping_slices() -> onnx.ModelProto:
    """Each norm would change a channel that the other slice reads as well."""
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
    ends += [net.op("Sigmoid", b, name="gate") for b, k in zip(branches, kinds, strict=True) if k == "shared"]
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
    factor = net.op("Div", rows, net.const(np.array([4.0])), name="div")
    scales = net.op("Concat", net.const(np.ones(2)), factor, factor, name="scales", axis=0)
    y = net.op("Resize", x, "", scales, name="resize", mode="nearest")
    return net.model(net.relu(net.bn(net.op("Softmax", y, name="softmax"), 3)))
