"""Affine operations and decomposed BatchNorm, norms that meet norms, and what only looks like one."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import onnx
from onnx import TensorProto

from situations.build import Net, Table, ahead, back, keep, merged, per_channel

TABLE = Table()
Chain = Callable[[Net, str], str]


def _behind(chain: Chain, channels: int = 4) -> onnx.ModelProto:
    net = Net()
    y = net.conv(net.input("N", 3, 4, 4), 3, channels, (1, 1))
    return net.model(net.relu(chain(net, y)))


def _before(chain: Chain) -> onnx.ModelProto:
    net = Net()
    y = chain(net, net.relu(net.input("N", 4, "H", "W")))
    return net.model(net.conv(y, 4, 5))


def _vector(net: Net, channels: int = 4) -> str:
    return net.const(per_channel(net.rng.uniform(0.5, 1.5, channels)))


def _each(*ops: str, left: bool = False) -> Chain:
    """A chain of operations with per-channel constants; its nodes are named by position."""

    def chain(net: Net, y: str) -> str:
        for i, op in enumerate(ops):
            operands = [_vector(net), y] if left else [y, _vector(net)]
            y = net.op(op, *operands, name=f"a{i}")
        return y

    return chain


_CHAINS = {
    "mul": _each("Mul"), "add": _each("Add"), "sub": _each("Sub"), "div": _each("Div"),
    "mul_left": _each("Mul", left=True), "add_left": _each("Add", left=True),
    "sub_left": _each("Sub", left=True), "neg": lambda n, y: n.op("Neg", y, name="a0"),
    "mul_add": _each("Mul", "Add"), "sub_div_mul_add": _each("Sub", "Div", "Mul", "Add"),
    "sub_mul": _each("Sub", "Mul"), "scalar": lambda n, y: n.op("Mul", n.weight(1), y, name="a0"),
    "number": lambda n, y: n.op("Div", y, n.const(np.float64(255)), name="a0"),
}  # fmt: skip
for _name, _chain in _CHAINS.items():
    _count = _name.count("_") + 1 if not _name.endswith("_left") else 1
    TABLE.add({}, name=f"affine_{_name}", affines={f"a{i}": back("conv") for i in range(_count)})(
        partial(_behind, _chain)
    )
    TABLE.add(
        {}, name=f"affine_forward_{_name}", affines={f"a{i}": ahead("conv") for i in range(_count)}
    )(partial(_before, _chain))


def _frozen(net: Net, y: str) -> str:
    """rsqrt(var + eps) * gamma computed from constants, as a FrozenBatchNorm leaves it."""
    mean, bias, gamma = (
        net.weight(4, name=f"norm.{name}") for name in ("running_mean", "bias", "weight")
    )
    variance = net.weight(4, name="norm.running_var", low=0.5)
    eps = net.const(np.array(1e-5))
    sigma = net.op("Sqrt", net.op("Add", variance, eps, name="v"), name="s")
    scale = net.op("Mul", gamma, net.op("Reciprocal", sigma, name="r"), name="scale")
    shift = net.op("Sub", bias, net.op("Mul", mean, scale, name="m"), name="shift")
    scale = net.op("Reshape", scale, net.ints(1, 4, 1, 1), name="scale4")
    shift = net.op("Unsqueeze", shift, net.ints(0, 2, 3), name="shift4")
    return net.op("Add", net.op("Mul", y, scale, name="a0"), shift, name="a1")


TABLE.add({}, name="frozen_batch_norm", affines={"a0": back("conv"), "a1": back("conv")},
          after="Conv Relu")(partial(_behind, _frozen))  # fmt: skip
TABLE.add({}, name="frozen_batch_norm_forward", affines={"a0": ahead("conv"), "a1": ahead("conv")},
          after="Relu Conv")(partial(_before, _frozen))  # fmt: skip


def _caffe2(net: Net, y: str) -> str:
    return _each("Mul", "Add")(net, net.bn(y, 4))


TABLE.add({"bn": back("conv")}, name="caffe2", affines={"a0": back("conv"), "a1": back("conv")})(
    partial(_behind, _caffe2)
)


def _last_axis(net: Net, y: str) -> str:
    """Shaped for the last axis, whose size equals the number of channels: a trap."""
    return net.op("Mul", y, net.weight(4), name="a0")


TABLE.add({}, name="affine_for_the_last_axis")(partial(_behind, _last_axis))
TABLE.add({}, name="affine_add_for_the_last_axis")(
    partial(_behind, lambda n, y: n.op("Add", y, n.weight(4), name="a0"))
)
TABLE.add({}, name="affine_that_broadcasts")(
    partial(_behind, lambda n, y: n.op("Mul", y, n.weight(1, 4, 1, 1), name="a0"), channels=1)
)
TABLE.add({}, name="affine_that_broadcasts_a_mean")(
    partial(
        _behind,
        lambda n, y: n.op(
            "Add", n.op("ReduceMean", y, name="mean", axes=[1]), _vector(n), name="a0"
        ),
    )
)
TABLE.add({}, name="affine_for_each_sample", sizes=((2, 0),))(
    partial(_behind, lambda n, y: n.op("Mul", y, n.weight(2, 1, 1, 1), name="a0"))
)
TABLE.add({"bn": keep("broadcast", "Add 'a0'")}, name="norm_behind_an_affine_for_each_sample",
          sizes=((2, 0),))(
    partial(_behind, lambda n, y: n.bn(n.op("Add", y, n.weight(2, 1, 1, 1), name="a0"), 4))
)  # fmt: skip
TABLE.add({}, name="affine_of_higher_rank")(
    partial(_behind, lambda n, y: n.op("Mul", y, n.weight(1, 1, 4, 1, 1), name="a0"))
)
TABLE.add({}, name="affine_divided_by_the_value")(
    partial(_behind, lambda n, y: n.op("Div", _vector(n), y, name="a0"))
)
TABLE.add({}, name="affine_by_zero", doubles=False)(
    partial(_behind, lambda n, y: n.op("Div", y, n.const(np.zeros((1, 4, 1, 1))), name="a0"))
)
TABLE.add({"bn": back("conv")}, name="norm_behind_a_last_axis_affine")(
    lambda: _behind(lambda n, y: n.bn(_last_axis(n, y), 4, mean=0.0, shift=0.0))
)
TABLE.add({"bn": keep("opaque_producer", "Mul 'a0'")}, name="norm_with_shift_behind_it")(
    lambda: _behind(lambda n, y: n.bn(_last_axis(n, y), 4))
)


@TABLE.add({}, affines={"mul": back("gemm"), "add": back("gemm")})
def affine_for_the_last_axis_of_a_matrix() -> onnx.ModelProto:
    """There the last axis *is* the channel."""
    net = Net()
    y = net.op("Gemm", net.input("N", 3), net.weight(3, 4), name="gemm")
    y = net.op("Add", net.op("Mul", y, net.weight(4), name="mul"), net.weight(4), name="add")
    return net.model(net.relu(y))


@TABLE.add({})
def integers_are_no_affine() -> onnx.ModelProto:
    net = Net()
    y = net.op("Cast", net.input("N", 3), name="cast", to=TensorProto.INT64)
    y = net.op("Neg", net.op("Mul", y, net.ints(3), name="mul"), name="neg")
    return net.model(net.op("Cast", y, name="float", to=TensorProto.FLOAT))


@TABLE.add({})
def layer_norm_taken_apart() -> onnx.ModelProto:
    """Div -> Mul -> Add over statistics that are computed, before a MatMul that could take them."""
    net = Net()
    x = net.input("N", "T", 4)
    mean = net.op("ReduceMean", x, name="mean", axes=[-1])
    centred = net.op("Sub", x, mean, name="centre")
    square = net.op("Pow", centred, net.const(np.array(2.0)), name="square")
    variance = net.op("ReduceMean", square, name="variance", axes=[-1])
    eps = net.op("Add", variance, net.const(np.array(1e-5)), name="eps")
    y = net.op("Div", centred, net.op("Sqrt", eps, name="sqrt"), name="div")
    y = net.op("Add", net.op("Mul", y, net.weight(4), name="gamma"), net.weight(4), name="beta")
    return net.model(net.relu(net.op("MatMul", y, net.weight(4, 5), name="matmul")))


@TABLE.add({})
def layer_norm_operator() -> onnx.ModelProto:
    net = Net()
    x = net.input("N", "T", 4)
    y = net.op("LayerNormalization", x, net.weight(4), name="norm")
    y = net.op("Add", net.op("Mul", y, net.weight(4), name="gamma"), net.weight(4), name="beta")
    return net.model(net.relu(net.op("MatMul", y, net.weight(4, 5), name="matmul")))


# Norms that meet


@TABLE.add({"bn_a": back("conv"), "bn_b": back("conv")})
def norm_on_norm() -> onnx.ModelProto:
    net = Net()
    y = net.bn(net.conv(net.input("N", 3, "H", "W"), 3, 4), 4, "bn_a")
    return net.model(net.relu(net.bn(y, 4, "bn_b")))


def _norm_chain(count: int) -> onnx.ModelProto:
    net = Net()
    y = net.relu(net.input("N", 3, "H", "W"), "first")
    for i in range(count):
        y = net.bn(y, 3, f"bn{i}")
    return net.model(net.relu(y, "last"))


TABLE.add(
    {"bn0": keep("nonlinear_reader", "Relu 'last'"), "bn1": merged("backward", "bn0"),
     "bn2": merged("backward", "bn0")},
    name="norms_between_activations_merge",
)(partial(_norm_chain, 3))  # fmt: skip


@TABLE.add({"bn_a": keep("reader_is_output", "bn_a_out"), "bn_b": keep("graph_output")})
def norm_that_is_an_output_takes_no_other() -> onnx.ModelProto:
    net = Net()
    y = net.bn(net.relu(net.input("N", 3, "H", "W")), 3, "bn_a")
    return net.model(net.relu(net.bn(y, 3, "bn_b"), "end"), y)


@TABLE.add(
    {"bn_a": keep("training_mode"), "bn_b": keep("opaque_producer", "'bn_a'")}, doubles=False
)
def norm_in_training_takes_no_other() -> onnx.ModelProto:
    net = Net()
    y = net.bn(net.relu(net.input(2, 3, 5, 5)), 3, "bn_a", outputs=3, training_mode=1)
    return net.model(net.relu(net.bn(y, 3, "bn_b"), "end"))


@TABLE.add(
    {"bn_a": keep("shared_value", "bn_b"), "bn_b": keep("shared_value", "bn_a"),
     "bn_c": merged("backward", "bn_a")}
)  # fmt: skip
def merging_norms_with_shared_parameters() -> onnx.ModelProto:
    """The norm that takes another gets parameters of its own."""
    net = Net()
    x = net.relu(net.input("N", 3, "H", "W"))
    a = net.bn(x, 3, "bn_a")
    names = list(net.last().input)[1:]
    b = net.op("BatchNormalization", x, *names, name="bn_b")
    return net.model(net.relu(net.bn(a, 3, "bn_c"), "end_a"), net.relu(b, "end_b"))


@TABLE.add({"bn": merged("backward", "bias")})
def norm_of_a_shift_merges_into_an_affine() -> onnx.ModelProto:
    net = Net()
    y = net.op("Add", net.relu(net.input("N", 3, "H", "W")), net.weight(3, 1, 1), name="bias")
    y = net.bn(y, 3, scale=1.0, variance=1.0, epsilon=0.0)
    return net.model(net.op("Exp", y, name="exp"))


@TABLE.add({"bn": back()})
def neutral_norm() -> onnx.ModelProto:
    net = Net()
    y = net.bn(net.relu(net.input("N", 3, "H", "W")), 3, scale=1.0, shift=0.0, mean=0.0,
               variance=1.0, epsilon=0.0)  # fmt: skip
    return net.model(net.op("Exp", y, name="exp"))


@TABLE.add({"bn": back("conv")}, affines={"halve": back("conv"), "lift": back("conv")})
def affines_on_both_sides_of_a_norm() -> onnx.ModelProto:
    net = Net()
    y = net.op("Mul", net.conv(net.input("N", 3, "H", "W"), 3, 4), net.weight(1), name="halve")
    y = net.op("Add", net.bn(y, 4), net.weight(1, 1, 1), name="lift")
    return net.model(net.relu(y))


@TABLE.add({"bn": merged("backward", "bn")}, after="Add Relu")
def norm_of_a_constant() -> onnx.ModelProto:
    net = Net()
    x = net.input("N", 4, 5, 5)
    return net.model(net.relu(net.op("Add", x, net.bn(net.weight(1, 4, 1, 1), 4), name="add")))


@TABLE.add({"bn": ahead("next")}, affines={"shift": ahead("next"), "scale": ahead("next")})
def input_normalisation_before_a_convolution() -> onnx.ModelProto:
    net = Net()
    x = net.input("N", 3, "H", "W")
    y = net.op("Sub", x, net.weight(3, 1, 1), name="shift")
    y = net.op("Div", y, net.const(np.full((3, 1, 1), 58.0)), name="scale")
    return net.model(net.conv(net.bn(y, 3), 3, 4, name="next"))


@TABLE.add({"bn": keep("padded_reader", "Conv 'conv'")}, affines={"scale": ahead("conv")})
def only_the_scale_goes_into_a_padded_convolution() -> onnx.ModelProto:
    net = Net()
    y = net.bn(net.relu(net.input("N", 3, "H", "W")), 3)
    y = net.op("Mul", y, net.weight(3, 1, 1), name="scale")
    return net.model(net.conv(y, 3, 4, pads=[1, 1, 1, 1]))


@TABLE.add({}, doubles=False)
def affine_read_as_the_value_of_a_pad() -> onnx.ModelProto:
    """The product is what Pad writes at the border: a reader like any other."""
    net = Net()
    x = net.input("N", 3, "H", "W")
    level = net.op("ReduceMean", x, name="mean", keepdims=0)
    level = net.op("Mul", level, net.const(np.array(3.0)), name="triple")
    y = net.op("Pad", x, net.ints(0, 0, 1, 1, 0, 0, 1, 1), level, name="pad")
    other = net.op("Mul", level, net.const(np.array(2.0)), name="double")
    return net.model(net.op("Mul", y, net.op("Exp", other, name="exp"), name="product"))
