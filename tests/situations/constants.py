"""Where weights and parameters come from, and who shares them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper

from situations.build import Net, Table, back, keep, merged

TABLE = Table()


def _with_weight(make: Callable[[Net], str]) -> onnx.ModelProto:
    net = Net()
    x = net.input("N", 3, "H", "W")
    y = net.op("Conv", x, make(net), name="conv")
    return net.model(net.relu(net.bn(y, 4)))


def _weights(net: Net, *shape: int) -> NDArray[np.float64]:
    return net.rng.uniform(-1, 1, shape)


_SOURCES: dict[str, Callable[[Net], str]] = {
    "constant_node": lambda n: n.constant_node(_weights(n, 4, 3, 1, 1), "w"),
    "identity": lambda n: n.op("Identity", n.weight(4, 3, 1, 1), name="w"),
    "cast": lambda n: n.op(
        "Cast", n.const(_weights(n, 4, 3, 1, 1), dtype=np.float16), name="w", to=TensorProto.FLOAT
    ),
    "transpose": lambda n: n.op("Transpose", n.weight(3, 4, 1, 1), name="w", perm=[1, 0, 2, 3]),
    "unsqueeze": lambda n: n.op("Unsqueeze", n.weight(4, 3), n.ints(2, 3), name="w"),
    "reshape": lambda n: n.op("Reshape", n.weight(12), n.ints(4, 3, 1, 1), name="w"),
    "constant_of_shape": lambda n: n.op(
        "ConstantOfShape", n.ints(4, 3, 1, 1), name="w",
        value=numpy_helper.from_array(np.array([0.5], np.float32)),
    ),
    "expand": lambda n: n.op("Expand", n.weight(1, 3, 1, 1), n.ints(4, 1, 1, 1), name="w"),
    "cast_like_input": lambda n: n.op("CastLike", n.weight(4, 3, 1, 1), "x", name="w"),
    "product": lambda n: n.op("Mul", n.weight(4, 3, 1, 1), n.weight(4, 1, 1, 1), name="w"),
    "deep_chain": lambda n: n.op(
        "Identity", n.op("Transpose", n.constant_node(_weights(n, 3, 4, 1, 1), "c"), name="t",
                         perm=[1, 0, 2, 3]), name="w",
    ),
}  # fmt: skip
for _name, _make in _SOURCES.items():
    TABLE.add({"bn": back("conv")}, name=f"weight_from_{_name}", after="Conv Relu")(
        partial(_with_weight, _make)
    )


@TABLE.add({"bn": back("gemm")}, after="Gemm Relu")
def parameters_from_lists_of_floats() -> onnx.ModelProto:
    """Constant nodes with ``value_float`` and ``value_floats``, the BN's through Expand."""
    net = Net()
    x = net.input("N", 3)
    y = net.op("Gemm", x, net.weight(3, 4), net.constant_node(0, "b", value_float=0.5), name="gemm")
    scale = net.constant_node(0, "scale", value_floats=[0.5, -1.0, 2.0, 1.5])
    one = net.op("Expand", net.constant_node(0, "one", value_float=1.0), net.ints(4), name="ones")
    zero = net.op("ConstantOfShape", net.ints(4), name="zeros")
    y = net.op("BatchNormalization", y, scale, one, zero, one, name="bn")
    return net.model(net.relu(y))


@TABLE.add({"bn": back("conv")}, after="Conv Relu")
def bias_computed_from_a_zero_as_the_raw_exporter_does() -> onnx.ModelProto:
    net = Net()
    x = net.input("N", 3, "H", "W")
    w = net.weight(4, 3, 1, 1)
    zero = net.op("CastLike", net.const(np.array(0), dtype=np.int64), x, name="zero")
    size = net.op("Shape", w, name="size", start=0, end=1)
    y = net.op("Conv", x, w, net.op("Expand", zero, size, name="b"), name="conv")
    return net.model(net.relu(net.bn(y, 4)))


def _without_affine(
    dtype: int = TensorProto.FLOAT, *, cast: bool = True, filled: bool = False
) -> onnx.ModelProto:
    """A norm whose scale and shift are a number each, as often as the convolution has channels."""
    net = Net(opset=20, dtype=dtype)
    y = net.conv(net.input("N", 3, "H", "W"), 3, 4, (1, 1))
    size = net.op("Shape", y, name="size", start=1, end=2)
    vectors = []
    for name, number in (("scale", 1.0), ("shift", 0.0)):
        if filled:
            value = numpy_helper.from_array(np.array([number], net.numpy_type))
            vectors.append(net.op("ConstantOfShape", size, name=name, value=value))
            continue
        one = net.const(np.array([number]), f"{name}_number", dtype=np.float32)
        one = net.op("CastLike", one, y, name=f"{name}_cast") if cast else one
        vectors.append(net.op("Expand", one, size, name=name))
    mean, variance = net.weight(4, name="mean"), net.weight(4, low=0.5, name="variance")
    y = net.op("BatchNormalization", y, *vectors, mean, variance, name="bn")
    return net.model(net.relu(y))


TABLE.add({"bn": back("conv")}, name="norm_without_affine", after="Conv Relu")(_without_affine)
TABLE.add({"bn": back("conv")}, name="norm_without_affine_uncast", after="Conv Relu",
          doubles=False)(partial(_without_affine, cast=False))  # fmt: skip
TABLE.add({"bn": back("conv")}, name="norm_without_affine_filled", after="Conv Relu",
          doubles=False)(partial(_without_affine, filled=True))  # fmt: skip
TABLE.add({"bn": back("conv")}, name="norm_without_affine_in_half_precision", after="Conv Relu",
          doubles=False, tolerance=5e-3)(
    partial(_without_affine, dtype=TensorProto.FLOAT16)
)  # fmt: skip


@TABLE.add({"bn": keep("computed_statistics", "scale_out")}, doubles=False)
def norm_with_a_scale_that_repeats_a_computed_number() -> onnx.ModelProto:
    net = Net()
    y = net.conv(net.input("N", 3, "H", "W"), 3, 4, (1, 1))
    size = net.op("Shape", y, name="size", start=1, end=2)
    peak = net.op("ReduceMax", "x", name="peak", keepdims=0)
    scale = net.op("Expand", peak, size, name="scale")
    shift = net.op("Expand", net.const(np.array([0.0])), size, name="shift")
    mean, variance = net.weight(4), net.weight(4, low=0.5)
    y = net.op("BatchNormalization", y, scale, shift, mean, variance, name="bn")
    return net.model(net.relu(y))


@TABLE.add({"bn": keep("overridable_initializer", "shift_number")}, doubles=False)
def norm_with_a_shift_that_repeats_an_overridable_number() -> onnx.ModelProto:
    model = _without_affine(cast=False)
    info = onnx.helper.make_tensor_value_info("shift_number", TensorProto.FLOAT, [1])
    model.graph.input.append(info)
    return model


@TABLE.add(
    {"bn": keep("nonlinear_reader", "Relu 'last'"), "bn_b": merged("backward", "bn")},
    after="Relu BatchNormalization Relu",
)
def norm_without_affine_takes_another_one() -> onnx.ModelProto:
    """Its numbers become a scale and a shift of its own."""
    net = Net()
    y = net.relu(net.input("N", 3, "H", "W"), "first")
    size = net.op("Shape", y, name="size", start=1, end=2)
    vectors = [
        net.op("Expand", net.const(np.array([number])), size, name=f"vector{i}")
        for i, number in enumerate((1.0, 0.0))
    ]
    y = net.op("BatchNormalization", y, *vectors, net.weight(3), net.weight(3, low=0.5), name="bn")
    return net.model(net.relu(net.bn(y, 3, "bn_b"), "last"))


@TABLE.add({"bn": back("conv")}, after="Conv Relu")
def norm_parameters_through_identity() -> onnx.ModelProto:
    """As exporters do that store equal tensors once."""
    net = Net()
    y = net.conv(net.input("N", 3, "H", "W"), 3, 4, (1, 1))
    one = net.op("Identity", net.weight(4, low=0.5), name="one")
    return net.model(net.relu(net.op("BatchNormalization", y, one, one, one, one, name="bn")))


@TABLE.add({"bn_a": back("conv_a"), "bn_b": back("conv_b")})
def weight_shared_by_two_convolutions() -> onnx.ModelProto:
    net = Net()
    x = net.input("N", 3, "H", "W")
    a = net.conv(x, 3, 4, (1, 1), "conv_a")
    b = net.op("Conv", net.relu(x), "conv_a.weight", "conv_a.bias", name="conv_b")
    return net.model(net.bn(a, 4, "bn_a"), net.bn(b, 4, "bn_b"))


@TABLE.add({"bn": back("conv_a")})
def weight_shared_with_a_convolution_that_has_no_norm() -> onnx.ModelProto:
    net = Net()
    x = net.input("N", 3, "H", "W")
    a = net.conv(x, 3, 4, (1, 1), "conv_a")
    b = net.op("Conv", net.relu(x), "conv_a.weight", "conv_a.bias", name="conv_b")
    return net.model(net.bn(a, 4), b)


@TABLE.add({"bn_a": back("conv_a"), "bn_b": back("conv_b")})
def norm_parameters_shared() -> onnx.ModelProto:
    net = Net()
    x = net.input("N", 3, "H", "W")
    a = net.bn(net.conv(x, 3, 4, (1, 1), "conv_a"), 4, "bn_a")
    names = list(net.last().input)[1:]
    b = net.conv(x, 3, 4, (3, 3), "conv_b")
    return net.model(a, net.op("BatchNormalization", b, *names, name="bn_b"))


@TABLE.add({"bn": back("conv")})
def one_tensor_is_weight_scale_and_variance() -> onnx.ModelProto:
    net = Net()
    one = net.weight(4, low=0.5, name="one")
    y = net.op("Conv", net.input("N", 3, "H", "W"), net.weight(4, 3, 1, 1), one, name="conv")
    return net.model(net.relu(net.op("BatchNormalization", y, one, one, one, one, name="bn")))


@TABLE.add({"bn": back("conv")})
def weight_is_a_graph_output() -> onnx.ModelProto:
    net = Net()
    y = net.bn(net.conv(net.input("N", 3, "H", "W"), 3, 4, (1, 1)), 4)
    return net.model(y, "conv.weight")


@TABLE.add({"bn": back("conv")}, doubles=False)
def bias_that_ir_3_wants_listed_as_an_input() -> onnx.ModelProto:
    net = Net(opset=8, ir=3)
    y = net.bn(net.conv(net.input("N", 3, "H", "W"), 3, 4, bias=False), 4)
    y = net.relu(y)
    for tensor in net.initializers:
        net.input(*tensor.dims, name=tensor.name)
    return net.model(y)


@TABLE.add({"bn": back("conv")})
def bias_of_an_empty_name() -> onnx.ModelProto:
    net = Net()
    y = net.op("Conv", net.input("N", 3, "H", "W"), net.weight(4, 3, 1, 1), "", name="conv")
    return net.model(net.relu(net.bn(y, 4)))


@TABLE.add({"bn": back("conv")}, doubles=False)
def operator_set_spelled_out() -> onnx.ModelProto:
    """ "ai.onnx" is the long name of the standard domain."""
    net = Net()
    y = net.bn(net.conv(net.input("N", 3, "H", "W"), 3, 4), 4)
    model = net.model(net.relu(y))
    model.opset_import[0].domain = "ai.onnx"
    return model


def _overridable(ir: int, names: tuple[str, ...]) -> onnx.ModelProto:
    net = Net(opset=9, ir=ir)
    y = net.bn(net.conv(net.input("N", 3, "H", "W"), 3, 4, (1, 1)), 4)
    for name in names:
        dims = next(t.dims for t in net.initializers if t.name == name)
        net.input(*dims, name=name)
    return net.model(net.relu(y))


_ALL = ("conv.weight", "conv.bias", "bn.scale", "bn.shift", "bn.mean", "bn.variance")
TABLE.add({"bn": back("conv")}, name="initializers_as_inputs_ir_3", doubles=False)(
    partial(_overridable, 3, _ALL)
)
for _ir in (4, 8):
    TABLE.add({"bn": back("conv")}, name=f"initializers_as_inputs_frozen_ir_{_ir}", freeze=True,
              doubles=False)(partial(_overridable, _ir, _ALL))  # fmt: skip
    for _listed, _culprit in ((_ALL, "bn.scale"), (("conv.weight",), "conv.weight"),
                              (("conv.bias",), "conv.bias"), (("bn.mean",), "bn.mean")):  # fmt: skip
        TABLE.add(
            {"bn": keep("overridable_initializer", _culprit)},
            name=f"initializers_as_inputs_ir_{_ir}_{_culprit}_of_{len(_listed)}",
            doubles=False,
        )(partial(_overridable, _ir, _listed))


@TABLE.add({"bn": keep("overridable_initializer", "factor")})
def norm_before_an_overridable_factor() -> onnx.ModelProto:
    """What passes the factor is multiplied by it: the file's value must not be built in."""
    net = Net()
    y = net.bn(net.relu(net.input("N", 3, "H", "W")), 3)
    y = net.op("Mul", y, net.weight(1, name="factor"), name="mul")
    net.input(1, name="factor")
    return net.model(net.conv(y, 3, 4, (1, 1)))


@TABLE.add({"bn": keep("overridable_initializer", "order")})
def gather_with_an_overridable_order() -> onnx.ModelProto:
    net = Net()
    y = net.conv(net.input("N", 3, "H", "W"), 3, 4, (1, 1))
    y = net.op("Gather", y, net.const(np.array([3, 2, 1, 0]), "order"), name="gather", axis=1)
    net.input(4, name="order", dtype=TensorProto.INT64)
    return net.model(net.relu(net.bn(y, 4)))


@TABLE.add({"bn": keep("overridable_initializer", "amounts")})
def pad_with_overridable_amounts() -> onnx.ModelProto:
    net = Net()
    y = net.conv(net.input("N", 3, "H", "W"), 3, 4, (1, 1))
    y = net.op("Pad", y, net.const(np.zeros(8, np.int64), "amounts"), name="pad")
    net.input(8, name="amounts", dtype=TensorProto.INT64)
    return net.model(net.relu(net.bn(y, 4)))
