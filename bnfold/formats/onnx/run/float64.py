"""A piece of a network in float64, to tell a wrong fold from the runtime's own rounding.

Sums over large maps are rounded by the runtime in float32 far more than one unit in the last place,
and differently before and after a fold. The same piece in float64, its parameters unchanged, shows
what the parameters alone do. Operators run one by one in onnxruntime where it has them for float64;
the few that it lacks are sums, written here with NumPy.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from bnfold.errors import RuntimeUnavailableError
from bnfold.formats.onnx.graph.evaluation import is_known
from bnfold.formats.onnx.run.float64_quantised import dequantised, quantised
from bnfold.formats.onnx.run.parameters import FedModel
from bnfold.formats.onnx.run.session import Session

Array = NDArray[Any]
# Inputs that are float32 whatever the type of the values.
_ALWAYS_FLOAT = {"Resize": (1, 2), "Upsample": (1,), "Dropout": (1,), "QuantizeLinear": (1,)}


def run_in_double(
    piece: onnx.ModelProto, fed: FedModel, feeds: Mapping[str, Array], draw: int | None = None
) -> Array:
    """The one output of a piece.

    Args:
        piece: cut out of the model of ``fed``.
        fed: where its tensors come from.
        feeds: what enters it, by name.
        draw: moves its parameters by rounding, in their own type.

    Raises:
        NotImplementedError: where an operator can be run in float64 neither way.
    """
    graph = piece.graph
    known: dict[str, Array] = {i.name: feeds[i.name] for i in graph.input if i.name in feeds}
    known |= fed.feeds([i.name for i in graph.input], draw)
    known |= {t.name: np.asarray(fed.store.load(t)) for t in graph.initializer}
    for node in graph.node:
        for name, array in zip(node.output, _run(node, known, piece), strict=False):
            known[name] = array
    return _wide(known[graph.output[0].name])


def _run(node: onnx.NodeProto, known: Mapping[str, Array], like: onnx.ModelProto) -> list[Array]:
    own = _OWN.get(node.op_type) if is_known(node) else None
    arrays = [known[name] if name else None for name in node.input]
    if own is not None:
        return [own(node, [None if a is None else _wide(a) for a in arrays])]
    kept = _ALWAYS_FLOAT.get(node.op_type, ())
    given = {
        name: known[name] if i in kept else _wide(known[name])
        for i, name in enumerate(node.input)
        if name
    }
    return _in_onnxruntime(_widened(node), given, like)


def _in_onnxruntime(
    node: onnx.NodeProto, given: Mapping[str, Array], like: onnx.ModelProto
) -> list[Array]:
    inputs = [
        helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape)
        for n, a in given.items()
    ]
    outputs = [helper.make_empty_tensor_value_info(name) for name in node.output if name]
    graph = helper.make_graph([node], "one", inputs, outputs)
    model = helper.make_model(graph, opset_imports=like.opset_import, ir_version=like.ir_version)
    try:
        found = Session(model).run(given)
    except RuntimeUnavailableError as error:
        raise NotImplementedError(str(error)) from None
    return [found.get(name, np.empty(0)) for name in node.output]


def _widened(node: onnx.NodeProto) -> onnx.NodeProto:
    """The node with float64 in place of float32 in its settings."""
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    for attribute in copy.attribute:
        narrow = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16)
        if node.op_type == "Cast" and attribute.name == "to" and attribute.i in narrow:
            attribute.i = TensorProto.DOUBLE
        if attribute.name == "value" and attribute.t.data_type in narrow:
            wide = _wide(numpy_helper.to_array(attribute.t))
            attribute.t.CopyFrom(numpy_helper.from_array(wide, attribute.t.name))
    return copy


def _wide(array: Array) -> Array:
    floating = np.issubdtype(array.dtype, np.floating) or "float" in array.dtype.name
    return array.astype(np.float64) if floating else array


def _ints(node: onnx.NodeProto, name: str, default: Sequence[int]) -> list[int]:
    found = next((a for a in node.attribute if a.name == name), None)
    return list(found.ints) if found is not None and len(found.ints) else list(default)


def _setting(node: onnx.NodeProto, name: str, default: Any) -> Any:
    found = next((a for a in node.attribute if a.name == name), None)
    if found is None:
        return default
    value = helper.get_attribute_value(found)
    return value.decode() if isinstance(value, bytes) else value


def _convolved(node: onnx.NodeProto, arrays: Sequence[Array | None]) -> Array:
    x, weight = arrays[0], arrays[1]
    assert x is not None and weight is not None
    kernel = weight.shape[2:]
    n = len(kernel)
    strides, steps = _ints(node, "strides", [1] * n), _ints(node, "dilations", [1] * n)
    spans = [(k - 1) * d + 1 for k, d in zip(kernel, steps, strict=True)]
    pads = _pads(node, x.shape[2:], spans, strides)
    padded = np.pad(x, [(0, 0), (0, 0), *pads])
    windows = np.lib.stride_tricks.sliding_window_view(padded, spans, axis=tuple(range(2, 2 + n)))
    every = tuple(slice(None, None, s) for s in strides)
    taps = tuple(slice(None, None, d) for d in steps)
    windows = windows[_all(*every, *taps)]
    groups = int(_setting(node, "group", 1))
    result = np.concatenate(
        [
            np.tensordot(part, w, axes=([1, *range(2 + n, 2 + 2 * n)], list(range(1, 2 + n))))
            for part, w in zip(
                np.split(windows, groups, axis=1), np.split(weight, groups), strict=True
            )
        ],
        axis=-1,
    )
    result = np.moveaxis(result, -1, 1)
    return _with_bias(result, arrays)


def _pads(
    node: onnx.NodeProto, sizes: Sequence[int], spans: Sequence[int], strides: Sequence[int]
) -> list[tuple[int, int]]:
    mode, n = _setting(node, "auto_pad", "NOTSET"), len(sizes)
    if mode == "VALID":
        return [(0, 0)] * n
    if mode in ("SAME_UPPER", "SAME_LOWER"):
        total = [
            max((-(-s // t) - 1) * t + k - s, 0)
            for s, k, t in zip(sizes, spans, strides, strict=True)
        ]
        half = [t // 2 for t in total]
        upper = mode == "SAME_UPPER"
        return [(h, t - h) if upper else (t - h, h) for h, t in zip(half, total, strict=True)]
    pads = _ints(node, "pads", [0] * 2 * n)
    return list(zip(pads[:n], pads[n:], strict=True))


def _all(*spatial: Any) -> tuple[Any, ...]:
    """An index that takes all of the batch and all channels."""
    return (slice(None), slice(None), *spatial)


def _with_bias(result: Array, arrays: Sequence[Array | None]) -> Array:
    bias = arrays[2] if len(arrays) > 2 else None
    return result if bias is None else result + bias.reshape(1, -1, *[1] * (result.ndim - 2))


def _transposed(node: onnx.NodeProto, arrays: Sequence[Array | None]) -> Array:
    """Every input element adds its kernel to the output."""
    x, weight = arrays[0], arrays[1]
    assert x is not None and weight is not None
    kernel, n = weight.shape[2:], weight.ndim - 2
    if _setting(node, "auto_pad", "NOTSET") not in ("NOTSET", "VALID") or _ints(
        node, "output_shape", []
    ):
        raise NotImplementedError("ConvTranspose whose padding is not written out")
    strides, steps = _ints(node, "strides", [1] * n), _ints(node, "dilations", [1] * n)
    more, pads = _ints(node, "output_padding", [0] * n), _ints(node, "pads", [0] * 2 * n)
    groups = int(_setting(node, "group", 1))
    sizes = [
        (s - 1) * t + (k - 1) * d + 1 + o
        for s, t, k, d, o in zip(x.shape[2:], strides, kernel, steps, more, strict=True)
    ]
    result = np.zeros((x.shape[0], weight.shape[1] * groups, *sizes))
    for tap in np.ndindex(*kernel):
        part = np.concatenate(
            [
                np.tensordot(xs, w[_all(*tap)], axes=([1], [0]))
                for xs, w in zip(np.split(x, groups, axis=1), np.split(weight, groups), strict=True)
            ],
            axis=-1,
        )
        place = tuple(
            slice(i * d, i * d + (s - 1) * t + 1, t)
            for i, d, s, t in zip(tap, steps, x.shape[2:], strides, strict=True)
        )
        result[_all(*place)] += np.moveaxis(part, -1, 1)
    inner = tuple(slice(b, size - e) for b, e, size in zip(pads[:n], pads[n:], sizes, strict=True))
    return _with_bias(result[_all(*inner)], arrays)


def _global_average(node: onnx.NodeProto, arrays: Sequence[Array | None]) -> Array:
    x = arrays[0]
    assert x is not None
    return np.asarray(x.mean(axis=tuple(range(2, x.ndim)), keepdims=True))


def _average(node: onnx.NodeProto, arrays: Sequence[Array | None]) -> Array:
    x = arrays[0]
    assert x is not None
    kernel = _ints(node, "kernel_shape", [])
    n = len(kernel)
    if _setting(node, "ceil_mode", 0):
        raise NotImplementedError("AveragePool with ceil_mode")
    strides, steps = _ints(node, "strides", [1] * n), _ints(node, "dilations", [1] * n)
    spans = [(k - 1) * d + 1 for k, d in zip(kernel, steps, strict=True)]
    pads = _pads(node, x.shape[2:], spans, strides)

    def summed(values: Array) -> Array:
        padded = np.pad(values, [(0, 0), (0, 0), *pads])
        windows = np.lib.stride_tricks.sliding_window_view(
            padded, spans, axis=tuple(range(2, 2 + n))
        )
        every = tuple(slice(None, None, s) for s in strides)
        taps = tuple(slice(None, None, d) for d in steps)
        chosen = windows[_all(*every, *taps)]
        return np.asarray(chosen.sum(axis=tuple(range(-n, 0))))

    whole = _setting(node, "count_include_pad", 0)
    count = float(prod(kernel)) if whole else summed(np.ones((1, 1, *x.shape[2:])))
    return np.asarray(summed(x) / count)


_OWN: dict[str, Callable[[onnx.NodeProto, Sequence[Array | None]], Array]] = {
    "Conv": _convolved,
    "ConvTranspose": _transposed,
    "GlobalAveragePool": _global_average,
    "AveragePool": _average,
    "DequantizeLinear": dequantised,
    "QuantizeLinear": quantised,
}
