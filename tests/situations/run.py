"""Running models for tests: in onnxruntime as they are, or in float64 with onnx.reference."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

Arrays = dict[str, NDArray[Any]]
# The newest onnxruntime for Python 3.10 knows neither operator set 24 nor DeformConv.
RECENT = tuple(map(int, ort.__version__.split(".")[:2])) >= (1, 24)

_HALVES = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16)


def signature(model: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    """The inputs that have to be given."""
    given = {tensor.name for tensor in model.graph.initializer}
    return [i for i in model.graph.input if i.name not in given]


def feeds_for(
    model: onnx.ModelProto, sizes: Sequence[tuple[int, int]], seed: int = 7
) -> Iterator[Arrays]:
    """Inputs at each pair of sizes; a boolean input is given both ways."""
    rng = np.random.default_rng(seed)
    for batch, other in sizes:
        for flag in (True, False):
            feeds: Arrays = {}
            for info in signature(model):
                tensor = info.type.tensor_type
                shape = [
                    d.dim_value or (other if axis else batch)
                    for axis, d in enumerate(tensor.shape.dim)
                ]
                dtype = helper.tensor_dtype_to_np_dtype(tensor.elem_type)
                values = np.array(flag) if dtype == np.bool_ else rng.standard_normal(shape)
                feeds[info.name] = values.astype(dtype)
            yield feeds
            if not any(a.dtype == np.bool_ for a in feeds.values()):
                break


def run(model: onnx.ModelProto | Path, feeds: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
    """All outputs, by onnxruntime with its graph optimisations off."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    source = str(model) if isinstance(model, Path) else model.SerializeToString()
    session = ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    return [np.asarray(y) for y in session.run(None, dict(feeds))]


def run_in_double(model: onnx.ModelProto, feeds: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
    """All outputs of a model of doubles; onnxruntime has no such kernels for most operators."""
    with np.errstate(all="ignore"):
        return [np.asarray(y) for y in ReferenceEvaluator(model).run(None, dict(feeds))]


def as_double(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same network with every float turned into a double."""
    result = onnx.ModelProto()
    result.CopyFrom(model)
    _graph_as_double(result.graph)
    return result


def _graph_as_double(graph: onnx.GraphProto) -> None:
    for tensor in graph.initializer:
        _tensor_as_double(tensor)
    for info in (*graph.input, *graph.output, *graph.value_info):
        if info.type.tensor_type.elem_type in _HALVES:
            info.type.tensor_type.elem_type = TensorProto.DOUBLE
    for node in graph.node:
        scales = node.input[2:3] if node.op_type == "Resize" else ()
        assert not any(scales), "the scales of Resize are float32 by definition"
        for attribute in node.attribute:
            if attribute.HasField("t"):
                _tensor_as_double(attribute.t)
            if attribute.HasField("g"):
                _graph_as_double(attribute.g)
            if node.op_type == "Cast" and attribute.name == "to" and attribute.i in _HALVES:
                attribute.i = TensorProto.DOUBLE
        _constant_as_double(node)


def _constant_as_double(node: onnx.NodeProto) -> None:
    """``value_float`` is a single; a tensor can be a double."""
    if node.op_type == "ConstantOfShape" and not node.attribute:
        zero = numpy_helper.from_array(np.zeros(1))
        node.attribute.append(helper.make_attribute("value", zero))
    if node.op_type != "Constant" or node.attribute[0].name not in ("value_float", "value_floats"):
        return
    value = np.asarray(helper.get_attribute_value(node.attribute[0]), np.float64)
    del node.attribute[:]
    node.attribute.append(helper.make_attribute("value", numpy_helper.from_array(value)))


def _tensor_as_double(tensor: onnx.TensorProto) -> None:
    if tensor.data_type in _HALVES:
        array = numpy_helper.to_array(tensor).astype(np.float64)
        tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))


def error(ours: Sequence[NDArray[Any]], theirs: Sequence[NDArray[Any]]) -> float:
    """The largest difference of two runs, relative to the largest value of each output."""
    assert [a.shape for a in ours] == [b.shape for b in theirs]
    assert [a.dtype for a in ours] == [b.dtype for b in theirs]
    worst = 0.0
    for a, b in zip(ours, theirs, strict=True):
        x, y = a.astype(np.float64), b.astype(np.float64)
        assert np.array_equal(np.isfinite(x), np.isfinite(y))
        finite = np.isfinite(x)
        peak = float(np.abs(x[finite]).max(initial=0.0)) or 1.0
        worst = max(worst, float(np.abs(x[finite] - y[finite]).max(initial=0.0)) / peak)
    assert not math.isnan(worst)
    return worst
