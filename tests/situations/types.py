"""Number types: half, double and mixed precision, what overflows and what vanishes."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto

from situations.build import Net, Table, ahead, back, keep

TABLE = Table()


def _typed(dtype: int, factor: float = 1.0) -> onnx.ModelProto:
    net = Net(dtype=dtype)
    y = net.conv(net.input("N", 3, "H", "W"), 3, 4, (1, 1))
    return net.model(net.relu(net.bn(y, 4, scale=factor)))


TABLE.add({"bn": back("conv")}, name="half_precision", tolerance=5e-3)(
    partial(_typed, TensorProto.FLOAT16)
)
TABLE.add({"bn": back("conv")}, name="bfloat16", runs=False)(partial(_typed, TensorProto.BFLOAT16))
TABLE.add({"bn": back("conv")}, name="double_precision", runs=False)(
    partial(_typed, TensorProto.DOUBLE)
)
TABLE.add({"bn": keep("overflow", "Conv 'conv'")}, name="half_precision_overflow", tolerance=5e-3,
          doubles=False)(
    partial(_typed, TensorProto.FLOAT16, 60000.0)
)  # fmt: skip
TABLE.add({"bn": back("conv")}, name="float_where_half_overflows", sizes=((2, 4),))(
    partial(_typed, TensorProto.FLOAT, 60000.0)
)


@TABLE.add({"bn": keep("underflow", "Conv 'conv'")}, doubles=False, tolerance=5e-3)
def half_precision_underflow() -> onnx.ModelProto:
    """All channels lie where half precision keeps a bit or two of them."""
    net = Net(dtype=TensorProto.FLOAT16)
    y = net.conv(net.input("N", 3, "H", "W"), 3, 4, (1, 1))
    return net.model(net.relu(net.bn(y, 4, scale=1e-7, variance=1.0)))


@TABLE.add({"bn": back("conv")})
def dead_channels() -> onnx.ModelProto:
    """A scale of 1e-38 beside ordinary ones: its weights are flushed, the others stay exact."""
    net = Net()
    y = net.conv(net.input("N", 3, "H", "W"), 3, 4, (1, 1))
    scale, variance = [1e-38, 1.0, -0.5, 1e-30], [1e5, 1.0, 1e-38, 2e10]
    return net.model(net.relu(net.bn(y, 4, scale=scale, variance=variance)))


@TABLE.add({"bn": back("conv")}, doubles=False, tolerance=5e-3)
def half_convolution_with_float_norm() -> onnx.ModelProto:
    """Legal from opset 15 on: the BN's parameters have a type of their own."""
    net = Net(dtype=TensorProto.FLOAT16)
    y = net.conv(net.input("N", 3, "H", "W"), 3, 4, (1, 1))
    net.numpy_type = np.dtype(np.float32)
    return net.model(net.relu(net.bn(y, 4)))


def _cast_behind(types: tuple[int, int], scale: float = 1.0) -> onnx.ModelProto:
    """conv in one type, BN in another."""
    net = Net(dtype=types[0])
    y = net.conv(net.input("N", 3, "H", "W"), 3, 4, (1, 1))
    y = net.op("Cast", y, name="cast", to=types[1])
    net.numpy_type = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(types[1]))
    return net.model(net.relu(net.bn(y, 4, scale=scale)))


def _cast_before(types: tuple[int, int]) -> onnx.ModelProto:
    """BN in one type, conv in another."""
    net = Net(dtype=types[0])
    y = net.bn(net.relu(net.input("N", 3, "H", "W")), 3)
    y = net.op("Cast", y, name="cast", to=types[1])
    net.numpy_type = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(types[1]))
    return net.model(net.conv(y, 3, 4, (1, 1)))


_NARROWING = (TensorProto.FLOAT, TensorProto.FLOAT16)
_WIDENING = (TensorProto.FLOAT16, TensorProto.FLOAT)
_HALF: dict[str, Any] = {"doubles": False, "tolerance": 5e-3}
TABLE.add({"bn": back("conv")}, name="through_a_narrowing_cast", **_HALF)(
    partial(_cast_behind, _NARROWING)
)
TABLE.add({"bn": ahead("conv")}, name="forward_through_a_widening_cast", **_HALF)(
    partial(_cast_before, _WIDENING)
)
TABLE.add({"bn": back("conv")}, name="through_a_widening_cast", **_HALF)(
    partial(_cast_behind, _WIDENING)
)
# Values would overflow, or be rounded, where they were not before.
TABLE.add({"bn": keep("narrow_type", "Cast 'cast'")}, name="through_a_widening_cast_with_gain",
          **_HALF)(partial(_cast_behind, _WIDENING, 5000.0))  # fmt: skip
TABLE.add({"bn": keep("narrow_type", "Cast 'cast'")}, name="forward_through_a_narrowing_cast",
          **_HALF)(partial(_cast_before, _NARROWING))  # fmt: skip


@TABLE.add({"bn": keep("opaque_producer", "Cast 'back'")})
def cast_to_integers_and_back() -> onnx.ModelProto:
    net = Net()
    y = net.conv(net.input("N", 3, "H", "W"), 3, 4, (1, 1))
    y = net.op("Cast", y, name="cast", to=TensorProto.INT32)
    y = net.op("Cast", y, name="back", to=TensorProto.FLOAT)
    return net.model(net.relu(net.bn(y, 4)))
