"""What folds only where the gauges of many values change together, beside what must not."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import onnx

from situations.build import Net, Table, back, both, keep

TABLE = Table()
UP = np.array([0.7, 1.3, 0.9, 1.1])


class _Trunk:
    """A residual trunk: ``block`` adds ``conv(relu(bn(x)))`` to it."""

    def __init__(self) -> None:
        self.net = Net()
        self.x = self.net.conv(self.net.input("N", 3, "H", "W"), 3, 4, (1, 1), "stem")

    def block(self, mark: str, **norm: Any) -> str:
        net = self.net
        y = net.bn(self.x, 4, f"bn{mark}", **{"scale": UP, **norm})
        y = net.relu(y, f"relu{mark}")
        y = net.conv(y, 4, 4, (3, 3), f"conv{mark}", pads=[1] * 4)
        self.x = net.op("Add", self.x, y, name=f"add{mark}")
        return self.x

    def head(self) -> onnx.ModelProto:
        return self.net.model(self.net.conv(self.x, 4, 2, (1, 1), "head"))


@TABLE.add({"bn0": both("stem", "conv0"), "bn1": both("stem", "conv0", "conv1")})
def pre_activation_blocks() -> onnx.ModelProto:
    trunk = _Trunk()
    trunk.block("0")
    trunk.block("1")
    return trunk.head()


@TABLE.add({"bn0": keep("negative_scale", "end")})
def pre_activation_with_negative_scales() -> onnx.ModelProto:
    """Both signs on one trunk, which the graph output holds to its own."""
    trunk = _Trunk()
    trunk.block("0", scale=UP * [1, -1, 1, -1])
    end = trunk.net.relu(trunk.x, "end")
    return trunk.net.model(trunk.net.conv(end, 4, 2, (1, 1), "head"))


@TABLE.add({"bn0": both("stem", "conv0"), "bn1": both("stem", "conv0", "conv1")})
def pre_activation_with_one_sign_for_a_channel() -> onnx.ModelProto:
    """A trunk that no rectifier reads as it is may be stored with its sign turned."""
    trunk = _Trunk()
    trunk.block("0", scale=UP * [1, -1, 1, -1])
    trunk.block("1", scale=UP[::-1] * [1, -1, 1, -1])
    return trunk.head()


@TABLE.add({"bn0": both("stem", "conv0"), "bn1": keep("negative_scale", "relu")})
def pre_activation_with_two_signs_for_a_channel() -> onnx.ModelProto:
    trunk = _Trunk()
    trunk.block("0")
    trunk.block("1", scale=UP * [1, -1, 1, 1])
    return trunk.head()


@TABLE.add({"bn0": keep("graph_output", "stem_out")})
def pre_activation_and_the_trunk_before_is_an_output() -> onnx.ModelProto:
    trunk = _Trunk()
    start = trunk.x
    end = trunk.block("0")
    return trunk.net.model(trunk.net.conv(end, 4, 2, (1, 1), "head"), start)


@TABLE.add({"bn0": both("stem", "conv0")})
def pre_activation_and_the_trunk_behind_is_an_output() -> onnx.ModelProto:
    """There the shift is taken back: the last branch has a bias of its own."""
    trunk = _Trunk()
    return trunk.net.model(trunk.block("0"))


@TABLE.add({"bn0": keep("shared_value", "gate")})
def pre_activation_and_an_activation_reads_the_trunk() -> onnx.ModelProto:
    trunk = _Trunk()
    gate = trunk.net.op("Sigmoid", trunk.x, name="gate")
    trunk.block("0")
    return trunk.net.model(trunk.net.conv(trunk.x, 4, 2, (1, 1), "head"), gate)


@TABLE.add({"bn0": keep("shared_value", "padded")})
def pre_activation_and_a_padded_layer_reads_the_trunk() -> onnx.ModelProto:
    """A border of zeros would have to be a border of the shift."""
    trunk = _Trunk()
    padded = trunk.net.conv(trunk.x, 4, 2, (3, 3), "padded", pads=[1] * 4)
    trunk.block("0")
    return trunk.net.model(trunk.net.conv(trunk.x, 4, 2, (1, 1), "head"), padded)


@TABLE.add({"bn0": both("stem", "conv0")})
def pre_activation_and_a_plain_layer_reads_the_trunk() -> onnx.ModelProto:
    trunk = _Trunk()
    plain = trunk.net.conv(trunk.x, 4, 2, (3, 3), "plain")
    trunk.block("0")
    return trunk.net.model(trunk.net.conv(trunk.x, 4, 2, (1, 1), "head"), plain)


@TABLE.add({"bn0": both("stem", "conv0")})
def pre_activation_with_a_dead_channel() -> onnx.ModelProto:
    """relu(0 x - 1) is 0 whatever x is: the next layer takes the channel times 0."""
    trunk = _Trunk()
    trunk.block("0", scale=UP * [1, 0, 1, 1], shift=np.array([0.5, -1.0, 0.2, 0.1]))
    return trunk.head()


@TABLE.add({"bn0": keep("constant_channels", "conv0")})
def pre_activation_with_a_constant_channel() -> onnx.ModelProto:
    """relu(0 x + 1) is 1: at a border of zeros, the next layer would have to be given less of it."""
    trunk = _Trunk()
    trunk.block("0", scale=UP * [1, 0, 1, 1], shift=np.array([0.5, 1.0, 0.2, 0.1]))
    return trunk.head()


def _constant_channel(behind: str, shift: float = 1.0) -> onnx.ModelProto:
    """Channel 1 is constant behind the norm; a trunk reads what comes before it."""
    net = Net()
    x = net.conv(net.input("N", 3, 8, 8), 3, 4, (1, 1), "stem")
    y = net.bn(x, 4, scale=UP * [1, 0, 1, 1], shift=np.array([0.5, shift, 0.2, 0.1]))
    if behind == "pool":
        y = net.op("MaxPool", y, name="first", kernel_shape=[2, 2])
    leaky = "LeakyRelu" if behind == "leaky" else "Abs" if behind == "abs" else "Relu"
    y = net.op(leaky, y, name="relu")
    if behind == "average":
        y = net.op("AveragePool", y, name="average", kernel_shape=[2, 2])
    if behind == "counted":
        y = net.op(
            "AveragePool", y, name="average", kernel_shape=[2, 2], pads=[1] * 4, count_include_pad=1
        )
    if behind == "length":
        y = net.op("ReduceL2", y, name="length", axes=[2, 3])
    if behind == "sigmoid":
        return net.model(net.op("Sigmoid", y, name="end"), net.conv(x, 4, 2, (1, 1), "other"))
    y = net.conv(y, 4, 2, (1, 1), "conv")
    return net.model(y, net.conv(x, 4, 2, (1, 1), "other"))


for _behind in ("conv", "leaky", "abs", "pool", "average"):
    TABLE.add({"bn": both("stem", "conv")}, name=f"constant_channel_before_{_behind}")(
        partial(_constant_channel, _behind)
    )
for _behind, _culprit in (("counted", "average"), ("length", "length")):
    TABLE.add(
        {"bn": keep("constant_channels", _culprit)}, name=f"constant_channel_before_{_behind}"
    )(partial(_constant_channel, _behind))
TABLE.add({"bn": keep("constant_channels", "end")}, name="constant_channel_before_sigmoid")(
    partial(_constant_channel, "sigmoid")
)
TABLE.add({"bn": both("stem", "conv")}, name="channel_that_is_rectified_away")(
    partial(_constant_channel, "conv", -1.0)
)
TABLE.add({"bn": keep("constant_channels", "relu")}, name="negative_constant_behind_a_leaky_relu")(
    partial(_constant_channel, "leaky", -1.0)
)
TABLE.add({"bn": keep("constant_channels", "relu")}, name="negative_constant_rectified_later")(
    partial(_constant_channel, "pool", -1.0)
)


@TABLE.add({"bn": keep("constant_channels")})
def negative_constant_that_is_rectified_for_one_reader() -> onnx.ModelProto:
    net = Net()
    x = net.conv(net.input("N", 3, 8, 8), 3, 4, (1, 1), "stem")
    y = net.bn(x, 4, scale=UP * [1, 0, 1, 1], shift=np.array([0.5, -1.0, 0.2, 0.1]))
    ends = [net.conv(net.relu(y, "relu"), 4, 2, (1, 1), "c0"), net.conv(y, 4, 2, (1, 1), "c1")]
    return net.model(*ends, net.conv(x, 4, 2, (1, 1), "other"))


@TABLE.add({"bn0": keep("far_offset")})
def pre_activation_with_a_far_offset() -> onnx.ModelProto:
    """The trunk would hold values a thousand times as large as what it carries."""
    trunk = _Trunk()
    trunk.block("0", scale=UP * [1, 1e-4, 1, 1], mean=0.0)
    return trunk.head()


@TABLE.add({"bn": both("stem")})
def identity_branch_of_a_block() -> onnx.ModelProto:
    """RepVGG without merging: the scale of the branch becomes that of the block."""
    net = Net()
    x = net.relu(net.conv(net.input("N", 3, "H", "W"), 3, 4, (1, 1), "stem"), "start")
    branch = net.bn(x, 4, scale=UP)
    y = net.op("Add", branch, net.conv(x, 4, 4, pads=[1] * 4), name="sum")
    return net.model(net.conv(net.relu(y, "end"), 4, 2, (1, 1), "head"))


@TABLE.add({"bn": keep("shared_value", "conv")})
def identity_branch_behind_a_sigmoid_on_both_sides() -> onnx.ModelProto:
    net = Net()
    x = net.op("Sigmoid", net.conv(net.input("N", 3, "H", "W"), 3, 4, (1, 1), "stem"), name="start")
    y = net.op("Add", net.bn(x, 4, scale=UP), net.conv(x, 4, 4, pads=[1] * 4), name="sum")
    return net.model(net.op("Sigmoid", y, name="end"))


def _gate(net: Net, x: str) -> str:
    squeezed = net.op("GlobalAveragePool", x, name="squeeze")
    return net.op("Sigmoid", net.conv(squeezed, 4, 4, (1, 1), "excite"), name="gate")


@TABLE.add({"bn": back("conv")})
def norm_before_a_gate_of_its_own() -> onnx.ModelProto:
    net = Net()
    y = net.bn(net.conv(net.input("N", 3, "H", "W"), 3, 4), 4)
    return net.model(net.op("Mul", y, _gate(net, y), name="product"))


@TABLE.add({"bn": both("head")})
def norm_without_a_shift_behind_a_gate() -> onnx.ModelProto:
    """The scale passes the product; the value that the gate is made of takes it as well."""
    net = Net()
    y = net.relu(net.conv(net.input("N", 3, "H", "W"), 3, 4))
    product = net.op("Mul", y, _gate(net, y), name="product")
    z = net.relu(net.bn(product, 4, scale=UP, shift=0.0, mean=0.0), "end")
    return net.model(net.conv(z, 4, 2, name="head", pads=[1] * 4))


def _two_factors(second: float, *, same: bool = False) -> onnx.ModelProto:
    """Each factor of a product has a norm of its own, without a shift."""
    net = Net()
    x = net.input("N", 4, "H", "W")
    ends = []
    for i, (start, sign) in enumerate((("Sigmoid", 1.0), ("Tanh", second))):
        y = net.op("Sigmoid" if same else start, x, name=f"start{i}")
        y = net.bn(y, 4, f"bn{i}", scale=UP * [1, sign, 1, 1], shift=0.0, mean=0.0)
        ends.append(net.relu(y, f"relu{i}"))
    product = net.op("Mul", *ends, name="product")
    return net.model(net.conv(product, 4, 2, name="head", pads=[1] * 4))


TABLE.add({"bn0": both("head"), "bn1": both("head")}, name="norms_before_both_factors")(
    partial(_two_factors, 1.0)
)
TABLE.add(
    {"bn0": both("head"), "bn1": keep("negative_scale", "relu1")}, name="sign_before_one_factor"
)(partial(_two_factors, -1.0))


@TABLE.add({"bn": keep("nonlinear_reader", "end")})
def norm_behind_a_gate() -> onnx.ModelProto:
    """A product takes no shift."""
    net = Net()
    y = net.relu(net.conv(net.input("N", 3, "H", "W"), 3, 4))
    product = net.op("Mul", y, _gate(net, y), name="product")
    return net.model(net.conv(net.relu(net.bn(product, 4, scale=UP), "end"), 4, 2, name="head"))


@TABLE.add({"bn0": both("stem", "bn1", "head"), "bn1": keep("shared_value", "join1")})
def dense_block() -> onnx.ModelProto:
    """Each reader of the concatenation wants another shift of the same channels: one gets it."""
    net = Net()
    x, channels = net.conv(net.input("N", 3, "H", "W"), 3, 4, (1, 1), "stem"), 4
    for i in range(2):
        y = net.relu(net.bn(x, channels, f"bn{i}", scale=0.5 + 0.1 * np.arange(channels)), f"r{i}")
        y = net.conv(y, channels, 2, name=f"conv{i}", pads=[1] * 4)
        x, channels = net.op("Concat", x, y, name=f"join{i}", axis=1), channels + 2
    return net.model(net.conv(x, channels, 2, (1, 1), "head"))
