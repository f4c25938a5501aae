"""Through operators that move elements about: what passes, beside what does not."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import onnx

from situations.build import Net, Table, ahead, back, keep

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
    vectors: dict[str, Any] = {
        "scale": signs,
        "shift": 1 - np.array(signs),
        "mean": 0.0,
        "variance": 1.0,
    }
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
TABLE.add(
    {"bn": back("conv")}, name="reshape_into_fixed_groups_of_channels", sizes=((1, 0), (2, 0))
)(lambda: _between(_op("Reshape", 0, 2, 2, 9), channels=2, dims=("N", 3, 3, 3)))
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
_EQUAL: dict[str, Any] = {"scale": 1.5, "shift": 0.5, "mean": 0.2, "variance": 2.0}
for _mode in ("DCR", "CRD"):
    _step = _op("DepthToSpace", blocksize=2, mode=_mode)
    TABLE.add({"bn": back("conv")}, name=f"depth_to_space_{_mode}", sizes=_EVEN)(
        partial(_between, _step, channels=2, before=8)
    )
    TABLE.add({"bn": ahead("conv")}, name=f"forward_depth_to_space_{_mode}_one_scale", sizes=_EVEN)(
        partial(_ahead, _step, behind=1, **_EQUAL)
    )
    TABLE.add({"bn": keep("mixed_channels", "'step'")}, name=f"forward_depth_to_space_{_mode}",
              sizes=_EVEN)(partial(_ahead, _step, behind=1))  # fmt: skip
TABLE.add({"bn": keep("mixed_channels", "'step'")}, name="space_to_depth", sizes=_EVEN)(
    lambda: _between(_op("SpaceToDepth", blocksize=2), channels=16)
)
TABLE.add({"bn": back("conv")}, name="space_to_depth_one_scale", sizes=_EVEN)(
    partial(_between, _op("SpaceToDepth", blocksize=2), channels=16, **_EQUAL)
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
