"""Layers and sums beyond convolutions and matrix products: Mean, Einsum, FusedConv, DeformConv."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import onnx

from situations.build import Net, Table, ahead, back, both, keep
from situations.run import RECENT

TABLE = Table()
UP = np.array([0.7, 1.3, 0.9, 1.1])


# Mean of several values


@TABLE.add({"bn": back("conv0", "conv1", "conv2")})
def mean_of_three_convolutions() -> onnx.ModelProto:
    net = Net()
    x = net.input("N", 3, "H", "W")
    branches = [net.conv(x, 3, 4, (1, 1), f"conv{i}") for i in range(3)]
    return net.model(net.relu(net.bn(net.op("Mean", *branches, name="mean"), 4)))


@TABLE.add({"bn": back("conv")})
def mean_of_one_value() -> onnx.ModelProto:
    net = Net()
    y = net.conv(net.input("N", 3, "H", "W"), 3, 4)
    return net.model(net.relu(net.bn(net.op("Mean", y, name="mean"), 4)))


@TABLE.add({"bn": back("conv", "mean")})
def mean_with_a_constant() -> onnx.ModelProto:
    net = Net()
    y = net.conv(net.input("N", 3, "H", "W"), 3, 4)
    mean = net.op("Mean", y, net.weight(1, 4, 1, 1), name="mean")
    return net.model(net.relu(net.bn(mean, 4)))


@TABLE.add({"bn": keep("nonlinear_reader", "end")})
def mean_with_an_activation() -> onnx.ModelProto:
    net = Net()
    x = net.input("N", 3, "H", "W")
    gate = net.op("Sigmoid", net.conv(x, 3, 4, name="conv0"), name="gate")
    mean = net.op("Mean", net.conv(x, 3, 4, name="conv1"), gate, name="mean")
    return net.model(net.relu(net.bn(mean, 4), "end"))


@TABLE.add({"bn": ahead("head")})
def shift_of_one_branch_of_a_mean() -> onnx.ModelProto:
    """A quarter of it arrives behind the mean."""
    net = Net()
    x = net.input("N", 4, "H", "W")
    ones: dict[str, Any] = {"scale": 1.0, "variance": 1.0, "epsilon": 0.0}
    gates = [net.op(f, x, name=f) for f in ("Sigmoid", "Tanh", "Abs")]
    y = net.bn(net.op("Softplus", x, name="soft"), 4, **ones)
    mean = net.op("Mean", y, *gates, name="mean")
    return net.model(net.conv(mean, 4, 2, (1, 1), "head"))


@TABLE.add({"bn0": both("stem", "conv0"), "bn1": both("stem", "conv0", "conv1")})
def trunk_of_means() -> onnx.ModelProto:
    """What a trunk is stored with is halved at every block."""
    net = Net()
    x = net.conv(net.input("N", 3, "H", "W"), 3, 4, (1, 1), "stem")
    for i in range(2):
        y = net.relu(net.bn(x, 4, f"bn{i}", scale=UP), f"relu{i}")
        x = net.op("Mean", x, net.conv(y, 4, 4, name=f"conv{i}", pads=[1] * 4), name=f"mean{i}")
    return net.model(net.conv(x, 4, 2, (1, 1), "head"))


# Einsum with a constant


def _einsum(
    equation: str, value: tuple[int | str, ...], weight: tuple[int, ...], *, first: bool = True
) -> onnx.ModelProto:
    net = Net()
    pair = [net.input(*value), net.weight(*weight)]
    y = net.op("Einsum", *(pair if first else pair[::-1]), name="einsum", equation=equation)
    return net.model(net.relu(net.bn(y, 4)))


_EINSUMS: dict[str, Callable[[], onnx.ModelProto]] = {
    "einsum_of_channels_in_front": partial(_einsum, "nchw,oc->nohw", ("N", 3, "H", "W"), (4, 3)),
    "einsum_of_vectors": partial(_einsum, "nc,co->no", ("N", 3), (3, 4)),
    "einsum_with_the_constant_first": partial(
        _einsum, "oc,nct->not", ("N", 3, "H"), (4, 3), first=False
    ),
    "einsum_without_an_arrow": partial(_einsum, "ac,cb", ("N", 3), (3, 4)),
}
for _name, _build in _EINSUMS.items():
    TABLE.add({"bn": back("einsum")}, name=_name, after="Einsum Add Relu")(_build)


@TABLE.add({"bn": ahead("einsum")}, after="Einsum Add Relu")
def norm_in_front_of_an_einsum() -> onnx.ModelProto:
    net = Net()
    y = net.bn(net.input("N", 3, "H", "W"), 3)
    y = net.op("Einsum", y, net.weight(4, 3), name="einsum", equation="nchw,oc->nohw")
    return net.model(net.relu(y))


@TABLE.add({"bn": back("einsum")})
def einsum_with_a_bias_behind() -> onnx.ModelProto:
    net = Net()
    x = net.input("N", 3, "H", "W")
    y = net.op("Einsum", x, net.weight(4, 3), name="einsum", equation="nchw,oc->nohw")
    y = net.op("Add", y, net.weight(4, 1, 1), name="bias")
    return net.model(net.relu(net.bn(y, 4)))


def _unread(equation: str, value: tuple[int | str, ...], weight: tuple[int, ...]) -> None:
    """Not a matrix product, or none that is read."""
    name = "einsum_" + equation.replace("->", "_to_").replace(",", "_by_").replace("...", "dots")
    TABLE.add({"bn": keep("opaque_producer", "einsum")}, name=name)(
        partial(_einsum, equation, value, weight)
    )


_unread("nchw,ocdw->nohw", ("N", 3, "H", 5), (4, 3, 1, 5))  # d is summed over by itself
_unread("nchw,och->now", ("N", 3, 5, "W"), (4, 3, 5))  # two axes are summed over
_unread("nchw,oc->nowh", ("N", 3, "H", "W"), (4, 3))  # the others change places
_unread("ncht,oc->noh", ("N", 3, "H", "W"), (4, 3))  # one of them is summed over
_unread("nchw,c->nchw", ("N", 4, "H", "W"), (4,))  # nothing is
_unread("nchv,oc->nohv", ("N", 3, "H", "W"), (4, 1))  # the constant is repeated along c
_unread("...c,oc->...o", (4, 4, 3), (4, 3))


@TABLE.add({"bn": keep("opaque_producer", "einsum")})
def einsum_of_two_values() -> onnx.ModelProto:
    net = Net()
    x = net.input("N", 3, "H", "W")
    y = net.op("Einsum", net.conv(x, 3, 4, (1, 1)), x, name="einsum", equation="nohw,nchw->no")
    return net.model(net.relu(net.bn(y, 4)))


# onnxruntime's convolution with an activation


def _fused(net: Net, x: str, name: str = "fused", **settings: Any) -> str:
    weight, bias = net.weight(4, 4, 3, 3), net.weight(4)
    y = net.op("FusedConv", x, weight, bias, name=name, domain="com.microsoft", **settings)
    return y


def _fused_then_norm(**settings: Any) -> onnx.ModelProto:
    net = Net()
    y = _fused(net, net.input("N", 4, 9, 9), **settings)
    y = net.bn(y, 4)
    return net.model(net.relu(y))


def _norm_then_fused(**settings: Any) -> onnx.ModelProto:
    net = Net()
    return net.model(_fused(net, net.bn(net.input("N", 4, 9, 9), 4), **settings))


_CONTRIBUTED: dict[str, Any] = {"doubles": False}
TABLE.add({"bn": back("fused")}, name="fused_convolution_without_activation", **_CONTRIBUTED)(
    _fused_then_norm
)
TABLE.add(
    {"bn": keep("nonlinear_reader", "relu")}, name="fused_convolution_with_relu", **_CONTRIBUTED
)(partial(_fused_then_norm, activation="Relu"))
for _activation in ("Relu", "Tanh"):
    TABLE.add(
        {"bn": ahead("fused")}, name=f"norm_in_front_of_fused_{_activation.lower()}", **_CONTRIBUTED
    )(partial(_norm_then_fused, activation=_activation))
TABLE.add(
    {"bn": keep("padded_reader", "fused")}, name="norm_in_front_of_padded_fused", **_CONTRIBUTED
)(partial(_norm_then_fused, activation="Relu", pads=[1] * 4))


def _between_fused(first: str, **settings: Any) -> onnx.ModelProto:
    """A scale alone stands behind the activation, and in front of one."""
    net = Net()
    more = {"activation_params": [0.1]} if first == "LeakyRelu" else {}
    y = _fused(net, net.input("N", 4, 9, 9), "fused", activation=first, **more)
    y = net.relu(net.bn(y, 4, scale=UP, shift=0.0, mean=0.0, **settings), "end")
    return net.model(y)


for _first in ("Relu", "LeakyRelu"):
    TABLE.add({"bn": both("fused")}, name=f"scale_behind_fused_{_first.lower()}", **_CONTRIBUTED)(
        partial(_between_fused, _first)
    )
TABLE.add({"bn": keep("nonlinear_reader", "end")}, name="scale_behind_fused_tanh", **_CONTRIBUTED)(
    partial(_between_fused, "Tanh")
)


@TABLE.add({"bn": keep("opaque_producer", "fused")}, **_CONTRIBUTED)
def fused_convolution_with_an_addend() -> onnx.ModelProto:
    net = Net()
    x = net.input("N", 4, 9, 9)
    y = net.op(
        "FusedConv", x, net.weight(4, 4, 3, 3), net.weight(4), x, name="fused",
        domain="com.microsoft", activation="Relu", pads=[1] * 4,
    )  # fmt: skip
    return net.model(net.relu(net.bn(y, 4)))


# Convolutions that read between pixels


_WHERE: dict[str, Any] = {"runs": RECENT, "doubles": RECENT}


def _deformed(net: Net, x: str, *more: str, group: int = 1) -> str:
    offsets = net.conv(net.op("Sigmoid", x, name="gate"), 4, 18, name="offsets", pads=[1] * 4)
    return net.op(
        "DeformConv", x, net.weight(4, 4 // group, 3, 3), offsets, *more, name="deformed",
        kernel_shape=[3, 3], pads=[1] * 4, group=group,
    )  # fmt: skip


def _deform_then_norm(group: int, bias: bool, mask: bool) -> onnx.ModelProto:
    net = Net(opset=19, ir=9)
    x = net.input("N", 4, 7, 7)
    more = [net.weight(4) if bias else ""] if bias or mask else []
    if mask:
        masks = net.conv(x, 4, 9, name="masks", pads=[1] * 4)
        more.append(net.op("Sigmoid", masks, name="mask"))
    return net.model(net.relu(net.bn(_deformed(net, x, *more, group=group), 4)))


for _group, _bias, _mask in (
    (1, True, False),
    (2, False, False),
    (1, False, True),
    (2, True, True),
):
    TABLE.add(
        {"bn": back("deformed")},
        name=f"deformed_{_group}_{_bias:d}{_mask:d}",
        runs=RECENT,
        doubles=RECENT,
    )(partial(_deform_then_norm, _group, _bias, _mask))


def _norm_then_deform(offsets: str, **settings: Any) -> onnx.ModelProto:
    """The offsets come from elsewhere, or from what the norm makes."""
    net = Net(opset=19, ir=9)
    x = net.input("N", 4, 7, 7)
    y = net.bn(net.op("Sigmoid", x, name="start"), 4, **settings)
    steer = net.op("Tanh", x if offsets == "elsewhere" else y, name="steer")
    steer = net.op("Concat", *[steer] * 5, name="wide", axis=1)
    steer = net.op("Slice", steer, net.ints(0), net.ints(18), net.ints(1), name="offsets")
    return net.model(
        net.op("DeformConv", y, net.weight(4, 4, 3, 3), steer, name="deformed", pads=[1] * 4)
    )


_NO_SHIFT: dict[str, Any] = {"shift": 0.0, "mean": 0.0}
TABLE.add({"bn": ahead("deformed")}, name="scale_in_front_of_deformed", **_WHERE)(
    partial(_norm_then_deform, "elsewhere", **_NO_SHIFT)
)
TABLE.add(
    {"bn": keep("padded_reader", "deformed")},
    name="shift_in_front_of_deformed",
    runs=RECENT,
    doubles=RECENT,
)(partial(_norm_then_deform, "elsewhere"))
TABLE.add(
    {"bn": keep("nonlinear_reader", "steer")},
    name="scale_that_steers_deformed",
    runs=RECENT,
    doubles=RECENT,
)(partial(_norm_then_deform, "own", **_NO_SHIFT))


@TABLE.add({"bn": keep("opaque_reader", "deformed")}, **_WHERE)
def scale_is_the_offset_of_deformed() -> onnx.ModelProto:
    net = Net(opset=19, ir=9)
    x = net.input("N", 4, 7, 7)
    gate = net.op("Sigmoid", net.conv(x, 4, 18, name="conv", pads=[1] * 4), name="gate")
    offsets = net.bn(gate, 18, **_NO_SHIFT)
    y = net.op("DeformConv", x, net.weight(4, 4, 3, 3), offsets, name="deformed", pads=[1] * 4)
    return net.model(y)
