"""A model in float64, to tell a wrong fold from the runtime's own rounding.

Sums over large maps are rounded by the runtime in float32 far more than one unit in the last place,
and differently before and after a fold. The same two models in float64, their parameters unchanged,
show what the parameters alone do. onnxruntime has few kernels for that; onnx.reference has them all,
slowly, which does for single pieces of a network.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper
from onnx.reference import ReferenceEvaluator

from bnfold.formats.onnx.file.tensors import TensorStore
from bnfold.formats.onnx.graph.scopes import bodies_of
from bnfold.formats.onnx.run.variants import Compute

_FLOAT, _DOUBLE = TensorProto.FLOAT, TensorProto.DOUBLE
# Inputs that are float32 whatever the type of the values.
_ALWAYS_FLOAT = {"Resize": (1, 2), "Upsample": (1,), "Dropout": (1,), "QuantizeLinear": (1,)}


def as_double(
    model: onnx.ModelProto, store: TensorStore, computed: Mapping[str, Compute]
) -> tuple[onnx.ModelProto, dict[str, Compute]]:
    """A copy of a float32 model with every float32 tensor as float64, elements unchanged.

    Returns the copy and all its tensors, to be asked for one at a time.
    """
    result = onnx.ModelProto()
    result.CopyFrom(model)
    graph = result.graph
    del graph.value_info[:]
    spared = _spared(graph)
    tensors: dict[str, Compute] = dict(computed)
    for original, tensor in zip(model.graph.initializer, graph.initializer, strict=True):
        if tensor.data_type != _FLOAT or tensor.name in spared:
            continue
        load = computed.get(tensor.name) or _loader(original, store)
        tensors[tensor.name] = _widened(load)
        for field in ("external_data", "data_location", "raw_data", "float_data"):
            tensor.ClearField(field)
        tensor.data_type = _DOUBLE
    _convert(graph, spared)
    return result, tensors


def _loader(tensor: onnx.TensorProto, store: TensorStore) -> Compute:
    return lambda: store.load(tensor)


def _widened(load: Compute) -> Compute:
    return lambda: np.asarray(load()).astype(np.float64)


def _spared(graph: onnx.GraphProto) -> set[str]:
    """Names that must stay float32, because an operator insists on it."""
    names = set()
    for node in graph.node:
        for position in _ALWAYS_FLOAT.get(node.op_type, ()):
            if position < len(node.input):
                names.add(node.input[position])
    return names


def _convert(graph: onnx.GraphProto, spared: set[str]) -> None:
    for value in (*graph.input, *graph.output):
        if value.type.tensor_type.elem_type == _FLOAT and value.name not in spared:
            value.type.tensor_type.elem_type = _DOUBLE
    for node in graph.node:
        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.name == "to" and attribute.i == _FLOAT:
                attribute.i = _DOUBLE
            constant = attribute.name == "value" and node.output[0] not in spared
            if constant and attribute.t.data_type == _FLOAT:
                wide = numpy_helper.to_array(attribute.t).astype(np.float64)
                attribute.t.CopyFrom(numpy_helper.from_array(wide, attribute.t.name))
        for body in bodies_of(node):
            for tensor in body.initializer:
                if tensor.data_type == _FLOAT:
                    wide = numpy_helper.to_array(tensor).astype(np.float64)
                    tensor.CopyFrom(numpy_helper.from_array(wide, tensor.name))
            _convert(body, spared)


def run_in_double(
    model: onnx.ModelProto,
    store: TensorStore,
    computed: Mapping[str, Compute],
    feeds: Mapping[str, NDArray[Any]],
) -> dict[str, NDArray[Any]]:
    """The outputs of a (small) model in float64, from onnx.reference.

    Raises:
        NotImplementedError: where that lacks one of its operators.
    """
    wide, tensors = as_double(model, store, computed)
    for tensor in wide.graph.initializer:
        place = store.place(tensor)
        if tensor.name in tensors or place is not None:
            load = tensors.get(tensor.name) or _loader(tensor, store)
            tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(load()), tensor.name))
    typed = {
        name: array.astype(np.float64) if array.dtype == np.float32 else array
        for name, array in feeds.items()
        if name in {i.name for i in wide.graph.input}
    }
    try:
        results = ReferenceEvaluator(wide).run(None, typed)
    except Exception as error:  # the reference evaluator raises whatever its operators raise
        raise NotImplementedError(str(error)) from None
    names = [output.name for output in wide.graph.output]
    return {name: np.asarray(y) for name, y in zip(names, results, strict=True)}
