"""QuantizeLinear and DequantizeLinear with NumPy, for `float64`: onnxruntime has neither for float64.

What is rounded to integers is rounded as the file's own float32 does it, for these are other integers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import ml_dtypes
import numpy as np
import onnx
from numpy.typing import NDArray

Array = NDArray[Any]


def dequantised(node: onnx.NodeProto, arrays: Sequence[Array | None]) -> Array:
    integers, scale, zero = _operands(node, arrays)
    return np.asarray((integers.astype(np.float64) - zero.astype(np.float64)) * scale)


def quantised(node: onnx.NodeProto, arrays: Sequence[Array | None]) -> Array:
    floats, scale, zero = _operands(node, arrays)
    dtype = zero.dtype if len(arrays) > 2 and arrays[2] is not None else np.dtype(np.uint8)
    iinfo: Any = ml_dtypes.iinfo
    low, high = int(iinfo(dtype).min), int(iinfo(dtype).max)
    steps = np.rint(floats.astype(np.float32) / scale.astype(np.float32))
    return np.asarray(np.clip(steps + zero.astype(np.float32), low, high), dtype=dtype)


def _operands(node: onnx.NodeProto, arrays: Sequence[Array | None]) -> tuple[Array, Array, Array]:
    """What goes in, scale and zero point, shaped to broadcast."""
    settings = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    values, scale = arrays[0], arrays[1]
    assert values is not None and scale is not None
    zero = arrays[2] if len(arrays) > 2 else None
    block, axis = settings.get("block_size"), int(settings.get("axis", 1))
    if block:
        places = np.arange(values.shape[axis]) // block
        spread = scale.take(places, axis)
        return values, spread, np.zeros_like(spread) if zero is None else zero.take(places, axis)
    shape = [1] * values.ndim
    if scale.size > 1:
        shape[axis] = -1
    scale = scale.reshape(shape)
    return values, scale, np.zeros_like(scale) if zero is None else zero.reshape(shape)
