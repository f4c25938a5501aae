"""Behind or before one linear operator, in all its spellings."""

from __future__ import annotations

from functools import partial
from typing import Any

import onnx

from situations.build import Net, Table, ahead, back, keep

TABLE = Table()

# Convolutions behind which a BN stands: spatial rank, channels in and out, attributes.
_CONVS: dict[str, dict[str, Any]] = {
    "conv_1d": {"kernel": (3,)},
    "conv_2d": {"kernel": (3, 3), "pads": [1, 1, 1, 1]},
    "conv_3d": {"kernel": (2, 3, 1)},
    "conv_without_bias": {"kernel": (3, 3), "bias": False},
    "conv_in_groups": {"kernel": (3, 3), "group": 2},
    "conv_depthwise": {"kernel": (3, 3), "group": 4, "outputs": 8},
    "conv_strided_and_dilated": {"kernel": (3, 3), "strides": [2, 1], "dilations": [1, 2]},
    "conv_same_upper": {"kernel": (3, 3), "auto_pad": "SAME_UPPER", "strides": [2, 2]},
    "conv_same_lower": {"kernel": (2, 2), "auto_pad": "SAME_LOWER"},
    "conv_valid": {"kernel": (3, 3), "auto_pad": "VALID"},
}
_SIZES = ((1, 7), (2, 8), (3, 9))


def _conv_then_norm(kernel: tuple[int, ...], outputs: int = 6, **more: Any) -> onnx.ModelProto:
    net = Net()
    x = net.input("N", 4, *[f"S{i}" for i in range(len(kernel))])
    y = net.conv(x, 4, outputs, kernel, **more)
    return net.model(net.relu(net.bn(y, outputs)))


for _name, _settings in _CONVS.items():
    TABLE.add({"bn": back("conv")}, name=_name, sizes=_SIZES)(partial(_conv_then_norm, **_settings))


def _norm_then_conv(
    kernel: tuple[int, ...], outputs: int = 6, shift: float | None = None, **more: Any
) -> onnx.ModelProto:
    net = Net()
    x = net.input("N", 4, *[f"S{i}" for i in range(len(kernel))])
    zeros: dict[str, Any] = {} if shift is None else {"mean": 0.0, "shift": shift}
    y = net.bn(net.relu(x), 4, **zeros)
    return net.model(net.conv(y, 4, outputs, kernel, **more))


_FORWARD: dict[str, dict[str, Any]] = {
    "forward_conv_1d": {"kernel": (3,)},
    "forward_conv_1x1": {"kernel": (1, 1)},
    "forward_conv_3d": {"kernel": (2, 2, 2), "bias": False},
    "forward_conv_unpadded": {"kernel": (3, 3), "strides": [2, 2], "dilations": [1, 2]},
    "forward_conv_in_groups": {"kernel": (3, 3), "group": 2},
    "forward_conv_depthwise": {"kernel": (3, 3), "group": 4, "outputs": 8},
    "forward_conv_valid": {"kernel": (3, 3), "auto_pad": "VALID"},
    "forward_conv_padded_without_shift": {"kernel": (3, 3), "pads": [1, 1, 1, 1], "shift": 0.0},
    "forward_conv_same_without_shift": {"kernel": (3, 3), "auto_pad": "SAME_LOWER", "shift": 0.0},
}
for _name, _settings in _FORWARD.items():
    TABLE.add({"bn": ahead("conv")}, name=_name, sizes=_SIZES)(
        partial(_norm_then_conv, **_settings)
    )
_PADDED: dict[str, dict[str, Any]] = {
    "forward_conv_padded": {"kernel": (3, 3), "pads": [1, 1, 1, 1]},
    "forward_conv_padded_at_one_end": {"kernel": (3, 3), "pads": [0, 0, 0, 1]},
    "forward_conv_padded_1x1": {"kernel": (1, 1), "pads": [1, 1, 1, 1]},
    "forward_conv_same_upper": {"kernel": (3, 3), "auto_pad": "SAME_UPPER"},
    "forward_conv_same_lower": {"kernel": (3, 3), "auto_pad": "SAME_LOWER"},
}
for _name, _settings in _PADDED.items():
    TABLE.add({"bn": keep("padded_reader", "Conv 'conv'")}, name=_name, sizes=_SIZES)(
        partial(_norm_then_conv, **_settings)
    )

_TRANSPOSED: dict[str, dict[str, Any]] = {
    "conv_transpose_1d": {"kernel": (3,)},
    "conv_transpose_2d": {"kernel": (3, 2), "strides": [2, 2]},
    "conv_transpose_without_bias": {"kernel": (2, 2), "bias": False},
    "conv_transpose_in_groups": {"kernel": (3, 3), "group": 2, "strides": [2, 2]},
    "conv_transpose_depthwise": {"kernel": (3, 3), "group": 4, "pads": [1, 1, 1, 1]},
    "conv_transpose_output_padding": {
        "kernel": (2, 2), "strides": [3, 3], "output_padding": [1, 1],
    },
}  # fmt: skip


def _transpose_then_norm(
    kernel: tuple[int, ...], bias: bool = True, group: int = 1, **more: Any
) -> onnx.ModelProto:
    net = Net()
    x = net.input("N", 4, *[f"S{i}" for i in range(len(kernel))])
    weights = [net.weight(4, 2, *kernel)] + ([net.weight(2 * group)] if bias else [])
    y = net.op("ConvTranspose", x, *weights, name="up", group=group, **more)
    return net.model(net.relu(net.bn(y, 2 * group)))


for _name, _settings in _TRANSPOSED.items():
    _exact = "group" not in _settings  # onnx.reference knows no groups here
    TABLE.add({"bn": back("up")}, name=_name, sizes=((1, 4), (2, 5)), doubles=_exact)(
        partial(_transpose_then_norm, **_settings)
    )


def _norm_then_transpose(
    kernel: tuple[int, int], zero: bool = False, group: int = 1, **more: Any
) -> onnx.ModelProto:
    net = Net()
    x = net.input("N", 4, "H", "W")
    zeros: dict[str, Any] = {"mean": 0.0, "shift": 0.0} if zero else {}
    y = net.bn(net.relu(x), 4, **zeros)
    weight = net.weight(4, 3, *kernel)
    return net.model(net.op("ConvTranspose", y, weight, name="up", group=group, **more))


TABLE.add({"bn": ahead("up")}, name="forward_conv_transpose_1x1")(
    partial(_norm_then_transpose, (1, 1))
)
TABLE.add({"bn": ahead("up")}, name="forward_conv_transpose_without_shift", doubles=False)(
    partial(_norm_then_transpose, (3, 3), zero=True, group=2)
)
_BORDERS: dict[str, dict[str, Any]] = {
    "overlapping": {"kernel": (3, 3)},
    "strided_1x1": {"kernel": (1, 1), "strides": [2, 2]},
    "side_by_side": {"kernel": (2, 2), "strides": [2, 2]},
}
for _name, _settings in _BORDERS.items():
    TABLE.add(
        {"bn": keep("shift_at_borders", "ConvTranspose 'up'")},
        name=f"forward_conv_transpose_{_name}",
    )(partial(_norm_then_transpose, **_settings))

# Gemm: every legal third operand, on either side of the BN.
_C: dict[str, tuple[int, ...] | str | None] = {
    "absent": None, "empty": "", "scalar": (), "one": (1,), "vector": (4,), "row": (1, 4),
    "column": (3, 1), "matrix": (3, 4), "one_by_one": (1, 1),
}  # fmt: skip


def _gemm(
    c: tuple[int, ...] | str | None, behind: bool, batch: int | str = 3, **more: Any
) -> onnx.ModelProto:
    net = Net()
    x = net.input(*((5, batch) if more.get("transA") else (batch, 5)))
    if not behind:
        x = net.bn(net.relu(x), int(batch) if more.get("transA") else 5)
    weight = net.weight(*((4, 5) if more.get("transB") else (5, 4)))
    third = [] if c is None else [""] if isinstance(c, str) else [net.weight(*c)]
    y = net.op("Gemm", x, weight, *third, name="gemm", **more)
    return net.model(net.relu(net.bn(y, 4), "end") if behind else net.relu(y, "end"))


for _name, _c in _C.items():
    for _behind in (True, False):
        _where = "behind" if _behind else "before"
        TABLE.add(
            {"bn": back("gemm") if _behind else ahead("gemm")}, name=f"gemm_{_where}_{_name}"
        )(partial(_gemm, _c, _behind, transB=int(_behind), alpha=0.7, beta=-1.3))
_ATTRIBUTES: dict[str, dict[str, Any]] = {
    "plain": {}, "transposed_input": {"transA": 1}, "both": {"transA": 1, "transB": 1},
    "alpha": {"alpha": 2.5}, "beta": {"beta": 0.25}, "beta_zero": {"beta": 0.0},
}  # fmt: skip
for _name, _settings in _ATTRIBUTES.items():
    TABLE.add({"bn": back("gemm")}, name=f"gemm_{_name}")(partial(_gemm, (4,), True, **_settings))
TABLE.add({"bn": back("gemm")}, name="gemm_dynamic_batch")(partial(_gemm, (4,), True, "N"))
TABLE.add({"bn": ahead("gemm")}, name="gemm_forward_dynamic_batch")(
    partial(_gemm, (4,), False, "N")
)
# The BN's channels are the rows of the transposed operand, which the product does not contract.
TABLE.add({"bn": keep("axis_mismatch", "Gemm 'gemm'")}, name="gemm_forward_transposed_input")(
    partial(_gemm, (4,), False, 5, transA=1)
)


def _matmul_right(
    *dims: int | str, add: bool, perm: list[int] | None = None, weight: tuple[int, ...] = (5, 5)
) -> onnx.ModelProto:
    """``x W``; sizes are equal on purpose, so that only the axes can tell right from wrong."""
    net = Net()
    y = net.op("MatMul", net.input(*dims), net.weight(*weight), name="matmul")
    if add:
        y = net.op("Add", y, net.weight(5), name="add")
    if perm:
        y = net.op("Transpose", y, name="turn", perm=perm)
    return net.model(net.relu(net.bn(y, 5)))


TABLE.add({"bn": back("matmul")}, name="matmul", after="Gemm Relu")(
    partial(_matmul_right, "N", 5, add=False)
)
TABLE.add({"bn": back("matmul")}, name="matmul_add")(partial(_matmul_right, "N", 5, add=True))
TABLE.add({"bn": back("matmul")}, name="matmul_rank_3_transposed_back")(
    partial(_matmul_right, "N", "T", 5, add=True, perm=[0, 2, 1])
)
TABLE.add(
    {"bn": back("matmul")}, name="matmul_rank_3_without_add", after="MatMul Add Transpose Relu"
)(partial(_matmul_right, "N", "T", 5, add=False, perm=[0, 2, 1]))
TABLE.add({"bn": back("matmul")}, name="matmul_rank_4")(
    partial(_matmul_right, "N", "H", "W", 5, add=True, perm=[0, 3, 1, 2])
)
TABLE.add({"bn": keep("axis_mismatch", "MatMul 'matmul'")}, name="matmul_equal_size_trap")(
    partial(_matmul_right, "N", 5, 5, add=False)
)
TABLE.add({"bn": keep("axis_mismatch", "MatMul 'matmul'")}, name="matmul_wrong_transpose")(
    partial(_matmul_right, 5, "T", 5, add=True, perm=[1, 0, 2])
)
TABLE.add({"bn": back("matmul")}, name="matmul_stack")(
    partial(_matmul_right, 2, "T", 5, add=True, perm=[0, 2, 1], weight=(2, 5, 5))
)


@TABLE.add({"bn": back("matmul")}, after="MatMul Add Relu")
def matmul_left() -> onnx.ModelProto:
    """``W x``: the output channel is the last axis but one, which is the BN's."""
    net = Net()
    y = net.op("MatMul", net.weight(5, 5), net.input("N", 5, "T"), name="matmul")
    return net.model(net.relu(net.bn(y, 5)))


@TABLE.add({"bn": ahead("matmul")}, after="Relu MatMul Add")
def matmul_left_forward() -> onnx.ModelProto:
    net = Net()
    y = net.bn(net.relu(net.input("N", 5, "T")), 5)
    return net.model(net.op("MatMul", net.weight(4, 5), y, name="matmul"))


@TABLE.add({"bn": ahead("matmul")}, after="Relu Gemm")
def matmul_forward() -> onnx.ModelProto:
    net = Net()
    y = net.bn(net.relu(net.input("N", 5)), 5)
    return net.model(net.op("MatMul", y, net.weight(5, 4), name="matmul"))


@TABLE.add({"bn": keep("axis_mismatch", "MatMul 'matmul'")})
def matmul_forward_equal_size_trap() -> onnx.ModelProto:
    net = Net()
    y = net.bn(net.relu(net.input("N", 5, 5)), 5)
    return net.model(net.op("MatMul", y, net.weight(5, 5), name="matmul"))


@TABLE.add({"bn": keep("axis_mismatch", "MatMul 'matmul'")})
def matmul_with_one_bias_for_all() -> onnx.ModelProto:
    """The Add behind is a scalar: no trap by itself, the axes still differ."""
    net = Net()
    y = net.op("MatMul", net.input("N", 5, 5), net.weight(5, 5), name="matmul")
    y = net.op("Add", y, net.weight(1), name="add")
    return net.model(net.relu(net.bn(y, 5)))


@TABLE.add({"bn": keep("computed_weight", "MatMul 'matmul'")})
def matmul_of_two_values() -> onnx.ModelProto:
    net = Net()
    x = net.relu(net.input("N", 4, 4))
    y = net.op("MatMul", x, net.op("Sigmoid", x, name="gate"), name="matmul")
    return net.model(net.relu(net.bn(y, 4), "end"))


@TABLE.add({"bn": keep("computed_weight", "Conv 'conv'")})
def conv_with_computed_weight() -> onnx.ModelProto:
    net = Net()
    x, w = net.input("N", 3, "H", "W"), net.input(4, 3, 1, 1, name="w")
    y = net.op("Conv", x, net.relu(w, "rectified"), name="conv")
    return net.model(net.relu(net.bn(y, 4)))
