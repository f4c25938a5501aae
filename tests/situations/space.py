"""Through averages, maxima and sums."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import onnx

from situations.build import Expected, Net, Table, ahead, back, both, keep

TABLE = Table()
_EVEN = ((1, 8), (2, 4), (3, 16))
Step = Callable[[Net, str], str]


def _between(step: Step, opset: int = 17, channels: int = 4, **norm: Any) -> onnx.ModelProto:
    net = Net(opset=opset)
    y = net.conv(net.input("N", 3, "H", "W"), 3, 4, (1, 1))
    return net.model(net.relu(net.bn(step(net, y), channels, **norm)))


def _ahead(step: Step, opset: int = 17, **norm: Any) -> onnx.ModelProto:
    net = Net(opset=opset)
    y = step(net, net.bn(net.relu(net.input("N", 4, "H", "W")), 4, **norm))
    return net.model(net.conv(y, 4, 5, (1, 1)))


def _op(op: str, *settings: str, **attributes: Any) -> Step:
    return lambda net, y: net.op(op, y, *settings, name="step", **attributes)


def _mean(axes: tuple[int, ...], keepdims: int = 1) -> Step:
    """The newer form, with the axes as an input."""
    return lambda net, y: net.op("ReduceMean", y, net.ints(*axes), name="step", keepdims=keepdims)


def _resize(sizes: bool, **attributes: Any) -> Step:
    def step(net: Net, y: str) -> str:
        if sizes:
            size = net.op("Shape", y, name="size", end=2)
            whole = net.op("Concat", size, net.ints(7, 5), name="whole", axis=0)
            return net.op("Resize", y, "", "", whole, name="step", **attributes)
        scales = net.const(np.array([1, 1, 2, 1.5], np.float32), dtype=np.float32)
        return net.op("Resize", y, "", scales, name="step", **attributes)

    return step


def _upsample(mode: str) -> Step:
    return lambda net, y: net.op(
        "Upsample", y, net.const(np.array([1, 1, 2, 2], np.float32), dtype=np.float32),
        name="step", mode=mode,
    )  # fmt: skip


_POOL = {"kernel_shape": [3, 3]}
_CARRIED: dict[str, tuple[Step, int]] = {
    "average_pool": (_op("AveragePool", **_POOL), 17),
    "average_pool_uncounted_padding": (
        _op("AveragePool", **_POOL, pads=[1, 1, 1, 1], strides=[2, 2]), 17),
    "average_pool_ceil": (_op("AveragePool", **_POOL, ceil_mode=1, strides=[2, 2]), 17),
    "average_pool_same": (_op("AveragePool", **_POOL, auto_pad="SAME_UPPER"), 17),
    "average_pool_counting_no_padding": (_op("AveragePool", **_POOL, count_include_pad=1), 17),
    "global_average_pool": (_op("GlobalAveragePool"), 17),
    "mean_axes_attribute": (_op("ReduceMean", axes=[2, 3]), 17),
    "mean_axes_input": (_mean((-1, -2)), 18),
    "resize_linear": (_resize(False, mode="linear"), 17),
    "resize_linear_corners": (
        _resize(False, mode="linear", coordinate_transformation_mode="align_corners"), 17),
    "resize_cubic": (_resize(False, mode="cubic"), 17),
    "resize_linear_to_sizes": (_resize(True, mode="linear"), 17),
    "upsample_linear": (_upsample("linear"), 9),
    "upsample_nearest": (_upsample("nearest"), 9),
}  # fmt: skip
for _name, (_step, _opset) in _CARRIED.items():
    _exact = _opset > 9 and "resize" not in _name and "ceil" not in _name
    TABLE.add({"bn": back("conv")}, name=f"through_{_name}", sizes=_EVEN,
              doubles=_exact)(
        partial(_between, _step, _opset)
    )  # fmt: skip
    TABLE.add({"bn": ahead("conv")}, name=f"forward_through_{_name}", sizes=_EVEN,
              doubles=_exact)(
        partial(_ahead, _step, _opset)
    )  # fmt: skip
_COUNTED: dict[str, dict[str, Any]] = {
    "average_pool_counted_padding": {**_POOL, "pads": [1, 1, 1, 1]},
    "average_pool_counted_padding_at_the_end": {
        "kernel_shape": [7, 7], "strides": [8, 8], "pads": [0, 0, 1, 1],
    },
    "average_pool_same_counted": {"kernel_shape": [2, 2], "auto_pad": "SAME_UPPER", "strides": [2, 2]},
}  # fmt: skip
for _name, _settings in _COUNTED.items():
    _step = _op("AveragePool", count_include_pad=1, **_settings)
    _sizes = ((1, 14), (2, 9), (3, 22))
    TABLE.add({"bn": keep("shift_blocked", "AveragePool 'step'")}, name=_name, sizes=_sizes,
              doubles=False)(partial(_between, _step))  # fmt: skip
    TABLE.add({"bn": keep("shift_blocked", "AveragePool 'step'")}, name=f"forward_{_name}",
              sizes=_sizes, doubles=False)(partial(_ahead, _step))  # fmt: skip
    TABLE.add({"bn": back("conv")}, name=f"{_name}_without_shift", sizes=_sizes, doubles=False)(
        partial(_between, _step, mean=0.0, shift=0.0)
    )
TABLE.add({"bn": back("conv")}, name="mean_without_kept_axes")(
    lambda: _between(_op("ReduceMean", axes=[2, 3], keepdims=0))
)
TABLE.add({"bn": keep("axis_mismatch", "Conv 'conv'")}, name="mean_over_columns_kept_apart",
          sizes=((1, 4), (2, 4)))(
    lambda: _between_fixed(_op("ReduceMean", axes=[1], keepdims=0))
)  # fmt: skip


def _between_fixed(step: Step) -> onnx.ModelProto:
    """All axes of one size, so that only their order tells them apart."""
    net = Net()
    y = step(net, net.conv(net.input("N", 3, 4, 4), 3, 4, (1, 1)))
    return net.model(net.relu(net.bn(y, 4)))


@TABLE.add({"bn": ahead("gemm")})
def forward_through_global_pool_and_flatten() -> onnx.ModelProto:
    net = Net()
    y = net.bn(net.relu(net.input("N", 4, "H", "W")), 4)
    y = net.op("Flatten", net.op("GlobalAveragePool", y, name="pool"), name="flatten")
    return net.model(net.op("Gemm", y, net.weight(4, 5), name="gemm"))


# Maxima

_UP: dict[str, Any] = {"scale": [0.5, 1.0, 2.0, 0.1]}
_MAXIMA: dict[str, Step] = {
    "max_pool": _op("MaxPool", **_POOL, strides=[2, 2]),
    "max_pool_padded": _op("MaxPool", **_POOL, pads=[1, 1, 1, 1]),
    "max_pool_ceil": _op("MaxPool", **_POOL, ceil_mode=1, strides=[2, 2]),
    "global_max_pool": _op("GlobalMaxPool"),
    "reduce_max": _op("ReduceMax", axes=[2, 3]),
}
for _name, _step in _MAXIMA.items():
    _exact = _name != "max_pool_ceil"
    TABLE.add({"bn": back("conv")}, name=f"through_{_name}", sizes=_EVEN, doubles=_exact)(
        partial(_between, _step, **_UP)
    )
    TABLE.add({"bn": ahead("conv")}, name=f"forward_through_{_name}", sizes=_EVEN, doubles=_exact)(
        partial(_ahead, _step, **_UP)
    )
    _kept = {"bn": keep("negative_scale", "'step'")}
    TABLE.add(_kept, name=f"{_name}_negative_scale", sizes=_EVEN, doubles=_exact)(
        partial(_between, _step)
    )
    TABLE.add(_kept, name=f"forward_{_name}_negative_scale", sizes=_EVEN, doubles=_exact)(
        partial(_ahead, _step)
    )


@TABLE.add({"bn": keep("opaque_producer", "MaxPool 'pool'")}, doubles=False)
def indices_of_the_maxima_in_use() -> onnx.ModelProto:
    net = Net()
    y = net.conv(net.input("N", 3, "H", "W"), 3, 4, (1, 1))
    y = net.op("MaxPool", y, name="pool", outputs=2, kernel_shape=[2, 2])
    end = net.relu(net.bn(y, 4, **_UP))
    return net.model(end, "pool_out1")


# Sums


def _sum(op: str, *kinds: str, swap: bool = False, flat: bool = False) -> onnx.ModelProto:
    """BN behind a sum of branches of the named kinds."""
    net = Net()
    x = net.input("N", 3, 5, 5)
    branches = []
    for i, kind in enumerate(kinds):
        if kind == "constant":
            branches.append(net.weight(1, 4, 1, 1))
            continue
        y = net.conv(x, 3, 4, (1, 1), f"conv{i}")
        if kind == "relu":
            y = net.relu(y, f"relu{i}")
        elif kind == "pooled":
            y = net.op("GlobalAveragePool", y, name="pool")
        elif kind == "grey":
            y = net.op("ReduceMean", y, name="grey", axes=[1])
        branches.append(y)
    if kinds == ("twice",):
        branches *= 2
    if swap:
        branches.reverse()
    y = net.op(op, *branches, name="sum")
    shared = [net.op("Sigmoid", branches[-1], name="gate")] if "shared" in kinds else []
    return net.model(net.relu(net.bn(y, 4), "end"), *shared)


_SUMS: dict[str, tuple[tuple[str, ...], Expected]] = {
    "add": (("Add", "conv", "conv"), back("conv0", "conv1")),
    "subtract": (("Sub", "conv", "conv"), back("conv0", "conv1")),
    "sum_of_three": (("Sum", "conv", "conv", "conv"), back("conv0", "conv1", "conv2")),
    "sum_of_three_with_a_constant": (
        ("Sum", "constant", "conv", "conv"), back("sum", "conv1", "conv2")),
    "sum_of_one": (("Sum", "conv"), back("conv0")),
    "broadcast_branch": (("Add", "conv", "pooled"), back("conv0", "conv1")),
    "branch_without_channels": (("Add", "conv", "grey"), keep("broadcast", "Add 'sum'")),
    "branch_is_an_activation": (("Add", "conv", "relu"), keep("negative_scale", "Relu 'relu1'")),
    "branch_is_shared": (("Add", "conv", "shared"), keep("shared_value", "Sigmoid 'gate'")),
    "one_value_twice": (("Add", "twice"), both("conv0")),
}  # fmt: skip
for _name, (_arguments, _expected) in _SUMS.items():
    TABLE.add({"bn": _expected}, name=f"sum_{_name}")(partial(_sum, *_arguments))
TABLE.add({"bn": back("conv1", "conv0")}, name="sum_subtract_swapped")(
    partial(_sum, "Sub", "conv", "conv", swap=True)
)


def _sum_of_step_branches(kind: str) -> onnx.ModelProto:
    """The shift must go to a branch that can take it, wherever that stands."""
    net = Net()
    x = net.input("N", 3, "H", "W")
    a = net.conv(x, 3, 4, (1, 1), "conv0")
    a = net.op("Pad", a, net.ints(0, 0, 1, 1, 0, 0, 1, 1), name="pad")
    b = net.conv(x, 3, 4, (1, 1), "conv1")
    b = net.op("Pad", b, net.ints(0, 0, 1, 1, 0, 0, 1, 1), name="edge", mode=kind)
    return net.model(net.relu(net.bn(net.op("Add", a, b, name="sum"), 4)))


TABLE.add({"bn": back("conv0", "conv1")}, name="sum_of_which_one_branch_takes_the_shift")(
    partial(_sum_of_step_branches, "edge")
)
TABLE.add({"bn": keep("shift_blocked", "Pad")}, name="sum_of_which_no_branch_takes_the_shift")(
    partial(_sum_of_step_branches, "constant")
)


def _residual(**norm: Any) -> onnx.ModelProto:
    """x + BN(x): only a shift may pass the sum."""
    net = Net()
    x = net.relu(net.input("N", 3, "H", "W"))
    y = net.op("Add", x, net.bn(x, 3, **norm), name="sum")
    return net.model(net.conv(y, 3, 4))


TABLE.add({"bn": keep("shared_value", "Add 'sum'")}, name="residual_forward")(_residual)
TABLE.add({"bn": ahead("conv")}, name="residual_forward_of_a_shift")(
    partial(_residual, scale=1.0, variance=1.0, epsilon=0.0)
)
