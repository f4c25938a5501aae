"""Quantised weights, biases and values around a norm."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import onnx
from numpy.typing import ArrayLike
from onnx import TensorProto, helper, numpy_helper

from situations.build import Net, Table, ahead, back, body, keep

TABLE = Table()
add = partial(TABLE.add, doubles=False)

# Integers, scale, zero point and axis of a weight of four output channels.
_PER_CHANNEL = (np.int8, (0.02, 0.03, 0.01, 0.025), (0, 0, 0, 0))
_PER_TENSOR = (np.int8, 0.02, 0)


def dequantised(
    net: Net, shape: tuple[int, ...], how: tuple[Any, ArrayLike, ArrayLike | None] = _PER_TENSOR,
    name: str = "dequantize", low: int | None = None, high: int | None = None, **settings: Any
) -> str:  # fmt: skip
    """A weight of random integers, from one end of their type to the other unless told."""
    dtype, scale, zero = how
    info = np.iinfo(dtype)
    ends = (info.min + (info.min < 0) if low is None else low, info.max if high is None else high)
    integers = net.rng.integers(*ends, shape, endpoint=True)
    integers.reshape(-1)[[-1, 0]] = ends
    rest = [net.const(np.asarray(scale, np.float32))]
    rest += [] if zero is None else [net.const(np.asarray(zero, dtype))]
    return net.op(
        "DequantizeLinear", net.const(integers, dtype=dtype), *rest, name=name, **settings
    )


def rounded(net: Net, x: str, scale: float = 0.05, name: str = "x") -> str:
    """Values between layers, quantised and dequantised."""
    step, zero = net.const(np.float32(scale)), net.const(np.uint8(128), dtype=np.uint8)
    quantised = net.op("QuantizeLinear", x, step, zero, name=f"{name}_quantize")
    return net.op("DequantizeLinear", quantised, step, zero, name=f"{name}_dequantize")


def _conv(how: tuple[Any, ArrayLike, ArrayLike | None], opset: int = 17, **more: Any) -> Net:
    net = Net(opset=opset)
    weight = dequantised(net, (4, 3, 3, 3), how, **more)
    net.op("Conv", net.input("N", 3, "H", "W"), weight, name="conv")
    return net


def _behind_conv(
    how: tuple[Any, ArrayLike, ArrayLike | None], norm: dict[str, Any] | None = None, **more: Any
) -> onnx.ModelProto:
    net = _conv(how, **more)
    return net.model(net.relu(net.bn("conv_out", 4, **(norm or {}))))


_UNIFORM: dict[str, Any] = {"scale": [1.0, -1.0, -1.0, 1.0], "variance": 1.0}
_POSITIVE: dict[str, Any] = {"scale": 0.7}
for _name, _build in {
    "per_channel": partial(_behind_conv, _PER_CHANNEL, axis=0),
    "per_tensor": partial(_behind_conv, _PER_TENSOR),
    "without_a_zero_point": partial(_behind_conv, (np.int8, 0.02, None)),
    "unsigned": partial(_behind_conv, (np.uint8, 0.02, 128)),
    "unsigned_from_zero": partial(_behind_conv, (np.uint8, 0.02, None)),
    "asymmetric": partial(_behind_conv, (np.int8, 0.02, -7), low=-128),
    "asymmetric_channels": partial(
        _behind_conv, (np.uint8, (0.02, 0.03, 0.01, 0.025), (0, 255, 7, 130)), axis=-4
    ),
    "sixteen_bits": partial(
        _behind_conv, (np.int16, (2e-5, 3e-5, 1e-5, 4e-5), None), opset=21, axis=0
    ),
    "all_scales_alike": partial(_behind_conv, _PER_TENSOR, _UNIFORM),
    "least_integer_where_nothing_is_negated": partial(
        _behind_conv, _PER_TENSOR, _POSITIVE, low=-128
    ),
    "dead_channels": partial(_behind_conv, _PER_TENSOR, {"scale": [0.0, -1.0, 1e-44, 1.0]}),
    "in_blocks": partial(
        _behind_conv, (np.int8, np.full((4, 2, 3, 3), 0.02), None), opset=21, axis=1, block_size=2
    ),
    "in_asymmetric_blocks": partial(
        _behind_conv,
        (np.uint8, np.full((4, 2, 3, 3), 0.02), np.full((4, 2, 3, 3), 128)),
        low=1,
        opset=21,
        axis=1,
        block_size=2,
    ),
    "last_opset": partial(_behind_conv, _PER_TENSOR, opset=23),
}.items():
    add({"bn": back("conv")}, name=f"quantised_{_name}")(_build)

for _name, _build in {
    "quantized_per_tensor": partial(_behind_conv, _PER_TENSOR, opset=12),
    "quantized_range": partial(_behind_conv, _PER_TENSOR, low=-128),
}.items():
    add({"bn": keep(_name, "Conv 'conv'")}, name=f"{_name}_stays")(_build)


_BLOCKS: dict[str, Any] = {"opset": 21, "axis": 0, "block_size": 2}
add({"bn": keep("quantized_inputs", "Conv 'conv'")}, name="quantised_blocks_of_output_channels")(
    partial(_behind_conv, (np.int8, np.full((2, 3, 3, 3), 0.02), None), **_BLOCKS)
)
add({"bn": back("conv")}, name="quantised_blocks_of_output_channels_alike")(
    partial(
        _behind_conv,
        (np.int8, np.full((2, 3, 3, 3), 0.02), None),
        {"scale": [0.5, -0.5, 2.0, 2.0], "variance": 1.0},
        **_BLOCKS,
    )
)
add({"bn": keep("quantized_range", "Conv 'conv'")}, name="quantised_blocks_with_the_least_integer")(
    partial(
        _behind_conv, (np.int8, np.full((4, 1, 3, 3), 0.02), None), low=-128, opset=21, axis=1,
        block_size=3,
    )
)  # fmt: skip


def _layer(opset: int, op: str, shape: tuple[int, ...], **settings: Any) -> onnx.ModelProto:
    net = Net(opset=opset)
    convolution = op in ("Conv", "ConvTranspose")
    x = net.input("N", 4, *(["H", "W"] if convolution else []))
    y = net.op(op, x, dequantised(net, shape), name="layer", **settings)
    return net.model(net.relu(net.bn(y, 4)))


for _name, _build in {
    "gemm": partial(_layer, 17, "Gemm", (4, 4)),
    "gemm_transposed": partial(_layer, 17, "Gemm", (4, 4), transB=1, alpha=0.5),
    "matmul": partial(_layer, 17, "MatMul", (4, 4)),
    "depthwise": partial(_layer, 17, "Conv", (4, 1, 3, 3), group=4),
    "grouped": partial(_layer, 17, "Conv", (4, 2, 3, 3), group=2),
    "conv_transpose": partial(_layer, 17, "ConvTranspose", (4, 4, 3, 3)),
    "conv_transpose_depthwise": partial(_layer, 17, "ConvTranspose", (4, 1, 3, 3), group=4),
}.items():
    _after = "DequantizeLinear Gemm Relu" if _name == "matmul" else None
    add({"bn": back("layer")}, name=f"quantised_{_name}", after=_after)(_build)

add({"bn": keep("quantized_inputs", "ConvTranspose 'layer'")}, name="quantised_conv_transpose_groups")(
    partial(_layer, 17, "ConvTranspose", (4, 2, 3, 3), group=2)
)  # fmt: skip


@add({"bn": back("layer")})
def quantised_weight_transposed_on_its_way() -> onnx.ModelProto:
    """As torch writes a linear layer."""
    net = Net()
    weight = dequantised(net, (4, 3), (np.int8, (0.02, 0.03, 0.01, 0.025), (0, 0, 0, 0)), axis=0)
    weight = net.op("Transpose", weight, name="turn", perm=[1, 0])
    y = net.op("MatMul", net.input("N", "T", 3), weight, name="layer")
    y = net.op("Transpose", net.op("Add", y, net.weight(4), name="add"), name="t", perm=[0, 2, 1])
    return net.model(net.relu(net.bn(y, 4)))


@add({"bn": keep("quantized_weight", "Conv 'conv'")})
def quantised_weight_that_two_layers_read() -> onnx.ModelProto:
    net = _conv(_PER_TENSOR)
    other = net.op("Conv", "x", "dequantize_out", name="other")
    return net.model(net.relu(net.bn("conv_out", 4)), other)


@add({"bn": back("conv")})
def quantised_scale_that_two_layers_read() -> onnx.ModelProto:
    """Exporters write one zero point for all."""
    net = _conv(_PER_TENSOR)
    integers = net.const(net.rng.integers(-9, 9, (5, 4, 1, 1)), dtype=np.int8)
    scale, zero = net.nodes[0].input[1:]
    weight = net.op("DequantizeLinear", integers, scale, zero, name="other")
    y = net.relu(net.bn("conv_out", 4))
    return net.model(net.op("Conv", y, weight, name="last"))


def _fake(opset: int = 17, scale: ArrayLike = 0.02, dtype: Any = np.int8, **settings: Any) -> Net:
    net = Net(opset=opset)
    shape = np.shape(scale)
    grid = net.const(np.asarray(scale, np.float32)), net.const(np.zeros(shape), dtype=dtype)
    floats = net.rng.uniform(-2.4, 2.6, (4, 3, 3, 3))  # the largest do not fit
    floats.reshape(-1)[:8] = 0.02 * (np.arange(8) + 0.5)  # ties
    q = net.op("QuantizeLinear", net.const(floats), *grid, name="round", **settings)
    weight = net.op("DequantizeLinear", q, *grid, name="dequantize", **settings)
    net.op("Conv", net.input("N", 3, "H", "W"), weight, name="conv")
    return net


@add({"bn": back("conv")})
def fake_quantised_weight() -> onnx.ModelProto:
    net = _fake()
    return net.model(net.relu(net.bn("conv_out", 4, **_POSITIVE)))


@add({"bn": back("conv")})
def fake_quantised_weight_with_negative_scales() -> onnx.ModelProto:
    net = _fake(scale=[0.02, 0.03, 0.02, 0.03], axis=0)
    return net.model(net.relu(net.bn("conv_out", 4)))


@add({"bn": keep("quantized_range", "Conv 'conv'")})
def fake_quantised_weight_that_reaches_the_least_integer() -> onnx.ModelProto:
    net = _fake(scale=0.018)
    return net.model(net.relu(net.bn("conv_out", 4)))


@add({"bn": keep("quantized_weight", "Conv 'conv'")})
def fake_quantised_weight_with_another_scale_behind() -> onnx.ModelProto:
    net = _fake()
    net.nodes[1].input[1] = net.const(np.float32(0.05))
    return net.model(net.relu(net.bn("conv_out", 4)))


@add({"bn": keep("quantized_inputs", "Conv 'next'")})
def norm_before_a_quantised_weight() -> onnx.ModelProto:
    """A scale for each input channel: onnxruntime would take it for one of each output channel."""
    net = Net()
    y = net.bn(net.relu(net.input("N", 3, "H", "W")), 3)
    weight = dequantised(net, (4, 3, 1, 1))
    return net.model(net.relu(net.op("Conv", y, weight, name="next"), "last"))


@add({"bn": ahead("next")})
def norm_before_a_quantised_depthwise_weight() -> onnx.ModelProto:
    net = Net()
    y = net.bn(net.relu(net.input("N", 4, "H", "W")), 4)
    weight = dequantised(net, (4, 1, 3, 3))
    return net.model(net.relu(net.op("Conv", y, weight, name="next", group=4), "last"))


@add({"bn": ahead("next")})
def norm_with_one_scale_before_a_quantised_weight() -> onnx.ModelProto:
    net = Net()
    y = net.bn(net.relu(net.input("N", 3, "H", "W")), 3, scale=[0.5, -0.5, 0.5], variance=1.0)
    weight = dequantised(net, (4, 3, 1, 1), _PER_CHANNEL, axis=0)
    return net.model(net.relu(net.op("Conv", y, weight, name="next"), "last"))


@add({"bn": back("conv")})
def norm_between_two_quantised_weights() -> onnx.ModelProto:
    net = _conv(_PER_CHANNEL, axis=0)
    y = net.bn("conv_out", 4)
    weight = dequantised(net, (5, 4, 1, 1), name="d2")
    return net.model(net.relu(net.op("Conv", y, weight, name="next")))


@add({"bn": back("conv")})
def quantised_weight_before_a_float_one() -> onnx.ModelProto:
    net = _conv(_PER_TENSOR)
    return net.model(net.relu(net.conv(net.bn("conv_out", 4), 4, 5, (1, 1), "next")))


@add({"bn": ahead("next")})
def quantised_weight_that_cannot_before_a_float_one() -> onnx.ModelProto:
    """The quantised layer stays as it is; what reads the norm takes it."""
    net = _conv(_PER_TENSOR, low=-128)
    return net.model(net.relu(net.conv(net.bn("conv_out", 4), 4, 5, (1, 1), "next")))


@add({"bn": back("conv")})
def quantised_weight_behind_a_float_one() -> onnx.ModelProto:
    net = Net()
    y = net.bn(net.conv(net.input("N", 3, "H", "W"), 3, 3, (1, 1)), 3)
    return net.model(net.relu(net.op("Conv", y, dequantised(net, (4, 3, 1, 1)), name="next")))


@add({"bn": keep("quantized_value", "DequantizeLinear 'x_dequantize'")})
def quantised_activations_between() -> onnx.ModelProto:
    net = Net()
    y = net.conv(net.input("N", 3, "H", "W"), 3, 4)
    return net.model(net.relu(net.bn(rounded(net, y), 4)))


@add({"bn": keep("quantized_value", "QuantizeLinear 'x_quantize'")})
def norm_of_an_input_before_quantised_activations() -> onnx.ModelProto:
    net = Net()
    y = rounded(net, net.bn(net.input("N", 3, "H", "W"), 3))
    return net.model(net.relu(net.conv(y, 3, 4)))


@add({"bn": keep("quantized_value", "QuantizeLinear 'x_quantize'")})
def quantised_activations_beside_a_norm() -> onnx.ModelProto:
    """A trunk that is quantised for an addition: no theorem, for every channel could have a scale."""
    net = Net()
    trunk = net.conv(net.input("N", 3, "H", "W"), 3, 4, (1, 1), "stem")
    branch = net.conv(net.relu(net.bn(trunk, 4)), 4, 4, (1, 1), "branch")
    return net.model(net.op("Add", rounded(net, trunk), branch, name="sum"))


@add({"bn": back("conv")})
def norm_between_a_layer_and_quantised_activations() -> onnx.ModelProto:
    net = _conv(_PER_TENSOR)
    return net.model(net.conv(rounded(net, net.bn("conv_out", 4)), 4, 2, name="last"))


def _with_bias(step: float | None, opset: int = 17, **more: Any) -> onnx.ModelProto:
    """A layer of quantised values and weights with a bias of 32 bits."""
    net = Net(opset=opset)
    x = rounded(net, net.input("N", 3, "H", "W"))
    weight = dequantised(net, (4, 3, 3, 3))
    own = 0.05 * 0.02 if step is None else step
    integers = net.const([1000, -50, 20, 2**30 if step == 1e-9 else 3], dtype=np.int32)
    bias = net.op("DequantizeLinear", integers, net.const(np.float32(own)), name="bias", **more)
    y = net.op("Conv", x, weight, bias, name="conv")
    return net.model(net.relu(net.bn(y, 4)))


@add({"bn": back("conv")}, after="QuantizeLinear DequantizeLinear DequantizeLinear Conv Relu")
def quantised_bias_beside_blocks() -> onnx.ModelProto:
    net = Net(opset=21)
    x = rounded(net, net.input("N", 3, "H", "W"))
    how = (np.int8, np.full((4, 1, 3, 3), 0.02), None)
    weight = dequantised(net, (4, 3, 3, 3), how, axis=1, block_size=3)
    integers = net.const([1000, -50, 20, 3], dtype=np.int32)
    bias = net.op("DequantizeLinear", integers, net.const(np.float32(1e-3)), name="bias")
    return net.model(net.relu(net.bn(net.op("Conv", x, weight, bias, name="conv"), 4)))


_KEPT = "QuantizeLinear DequantizeLinear DequantizeLinear DequantizeLinear Conv Relu"
_FLOAT = "QuantizeLinear DequantizeLinear DequantizeLinear Conv Relu"
add({"bn": back("conv")}, name="quantised_bias_in_steps", after=_KEPT, tolerance=2e-4)(
    partial(_with_bias, None)
)
add({"bn": back("conv")}, name="quantised_bias_in_other_steps", after=_FLOAT)(
    partial(_with_bias, 1e-9)
)


@add({"bn": back("conv")}, after="DequantizeLinear Conv Relu")
def quantised_bias_of_float_values() -> onnx.ModelProto:
    net = _conv(_PER_TENSOR)
    integers = net.const([1000, -50, 20, 3], dtype=np.int32)
    bias = net.op("DequantizeLinear", integers, net.const(np.float32(0.02)), name="bias")
    net.nodes[-2:] = net.nodes[:-3:-1]
    net.nodes[-1].input.append(bias)
    return net.model(net.relu(net.bn("conv_out", 4)))


@add({"bn": back("conv")}, after="DequantizeLinear Conv Relu")
def quantised_weight_of_constant_nodes() -> onnx.ModelProto:
    """Integers that are turned first; scale and zero point in nodes, the latter through a Cast."""
    net = Net()
    integers = net.rng.integers(-127, 127, (3, 4, 3, 3), endpoint=True).astype(np.int8)
    q = net.op("Constant", name="q", value=numpy_helper.from_array(integers))
    q = net.op("Transpose", q, name="turn", perm=[1, 0, 2, 3])
    zero = net.op("Cast", net.const(np.int32(-3)), name="zero", to=TensorProto.INT8)
    weight = net.op(
        "DequantizeLinear", q, net.constant_node(0.02, "scale"), zero, name="dequantize"
    )
    y = net.op("Conv", net.input("N", 3, "H", "W"), weight, name="conv")
    return net.model(net.relu(net.bn(y, 4)))


def _body(seed: int, *, inside: bool) -> Net:
    net = Net(seed=seed)
    name = f"weight_{seed}" if inside else "outer"
    weight = dequantised(net, (4, 3, 1, 1), name=name) if inside else "outer_out"
    net.bn(net.op("Conv", "x", weight, name=f"conv_{seed}"), 4, f"bn_{seed}")
    return net


def _in_bodies(*, inside: bool) -> onnx.ModelProto:
    net = Net()
    net.input("N", 3, "H", "W")
    if not inside:
        dequantised(net, (4, 3, 1, 1), name="outer")
    flag = net.input(name="flag", dtype=TensorProto.BOOL)
    bodies = [_body(seed, inside=inside) for seed in (1, 2)]
    then, other = (body(b, b.last().output[0], name=f"body{i}") for i, b in enumerate(bodies))
    y = net.op("If", flag, name="choice", then_branch=then, else_branch=other)
    return net.model(net.relu(y, "end"))


add({"bn_1": back("conv_1"), "bn_2": back("conv_2")}, name="quantised_weights_in_bodies")(
    partial(_in_bodies, inside=True)
)
add({"bn_1": keep("quantized_weight", "Conv 'conv_1'"),
     "bn_2": keep("quantized_weight", "Conv 'conv_2'")},
    name="quantised_weight_that_bodies_capture")(partial(_in_bodies, inside=False))  # fmt: skip


def _contributed(build: Callable[[], onnx.ModelProto]) -> onnx.ModelProto:
    """The same network with onnxruntime's own operators, which hold 16 bits at any operator set."""
    model = build()
    for node in model.graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            node.domain = "com.microsoft"
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    return model


_WIDE = (np.int16, (2e-5, 3e-5, 1e-5, 4e-5), None)
for _name, _expected, _made in (
    ("per_channel", back("conv"), partial(_behind_conv, _PER_CHANNEL, axis=0)),
    ("per_tensor_at_opset_11", back("conv"), partial(_behind_conv, _PER_TENSOR, opset=11)),
    ("sixteen_bits", back("conv"), partial(_behind_conv, _WIDE, opset=17, axis=0)),
    ("range", keep("quantized_range", "Conv 'conv'"), partial(_behind_conv, _PER_TENSOR, low=-128)),
    ("fake", back("conv"), fake_quantised_weight_with_negative_scales),
    (
        "values",
        keep("quantized_value", "DequantizeLinear 'x_dequantize'"),
        quantised_activations_between,
    ),
    ("bias_in_steps", back("conv"), partial(_with_bias, None)),
):
    _after = _KEPT if _name == "bias_in_steps" else None
    add({"bn": _expected}, name=f"contributed_quantised_{_name}", after=_after, tolerance=2e-4)(
        partial(_contributed, _made)
    )
