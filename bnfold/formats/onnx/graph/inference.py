"""Types and shapes of what one node makes, by ONNX's own shape inference at the file's operator set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TypeProto, checker, defs, helper, shape_inference

from bnfold.constants import Shape
from bnfold.formats.onnx.file.tensors import tensor_of

Types = Mapping[str, TypeProto]
_LIKE = {
    ("com.microsoft", "FusedConv"): "Conv",
    ("com.microsoft", "QuantizeLinear"): "QuantizeLinear",
    ("com.microsoft", "DequantizeLinear"): "DequantizeLinear",
}
_NEWEST = 21  # the operator set whose operators take as many number types as onnxruntime's own do
_STEERING = (onnx.TensorProto.INT64, onnx.TensorProto.INT32, onnx.TensorProto.FLOAT)


class Contradiction(Exception):
    """A node does not take inputs of these types and shapes."""


class Inference:
    """Shape inference for the nodes of one model."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self._opsets = {o.domain: o.version for o in model.opset_import}
        self._imports = list(model.opset_import)
        self._ir_version = model.ir_version

    def outputs(
        self, node: onnx.NodeProto, types: Types, data: Mapping[str, NDArray[Any]]
    ) -> dict[str, TypeProto]:
        """The types of the outputs, by name; of an operator that ONNX does not know, none.

        Args:
            node: any node.
            types: of its inputs, as far as they are known.
            data: the elements of inputs that decide about shapes.

        Raises:
            Contradiction: where such inputs make no sense.
        """
        if any(name and name not in types for name in node.input):
            return {}
        version = self._opsets.get(node.domain, 1)
        if (like := _as_standard(node)) is not node:
            node, version = like, _NEWEST
        try:
            schema = defs.get_schema(node.op_type, version, node.domain)
        except defs.SchemaError:
            return {}
        try:
            return shape_inference.infer_node_outputs(
                schema,
                node,
                dict(types),
                {name: tensor_of(array, name) for name, array in data.items()},
                opset_imports=self._imports,
                ir_version=self._ir_version,
            )
        except (shape_inference.InferenceError, RuntimeError, ValueError) as error:
            raise Contradiction(str(error)) from None
        except checker.ValidationError:  # stricter than the runtimes, about inputs left out
            return {}


def _as_standard(node: onnx.NodeProto) -> onnx.NodeProto:
    """An operator of onnxruntime's own whose result has the shape that a standard one gives it."""
    like = _LIKE.get((node.domain, node.op_type))
    if like is None:
        return node
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    copy.op_type, copy.domain = like, ""
    schema = defs.get_schema(like, _NEWEST, "")
    del copy.attribute[:], copy.input[schema.max_input :]
    copy.attribute.extend(a for a in node.attribute if a.name in schema.attributes)
    return copy


def may_steer(known: TypeProto | None) -> bool:
    """Whether elements of that type can decide a shape (sizes, axes; scales of a resize)."""
    return known is not None and known.tensor_type.elem_type in _STEERING


def tensor_type(dtype: np.dtype[Any], shape: Sequence[int]) -> TypeProto:
    return helper.make_tensor_type_proto(helper.np_dtype_to_tensor_dtype(dtype), shape)


def shape_in(known: TypeProto | None) -> Shape | None:
    """The shape that a type tells, None where an axis has no size in it."""
    if known is None or not known.HasField("tensor_type"):
        return None
    if not known.tensor_type.HasField("shape"):
        return None
    dims = known.tensor_type.shape.dim
    return tuple(d.dim_value for d in dims) if all(d.HasField("dim_value") for d in dims) else None


def size_in(known: TypeProto) -> int | None:
    """How many bytes a tensor of that type has, None where its shape does not tell."""
    shape = shape_in(known)
    if shape is None:
        return None
    return prod(shape) * helper.tensor_dtype_to_np_dtype(known.tensor_type.elem_type).itemsize


def read_off(node: onnx.NodeProto, shape: Shape) -> NDArray[np.int64] | None:
    """What Shape and Size make of a value of that shape; None for any other operator."""
    if node.op_type == "Size":
        return np.array(prod(shape), np.int64)
    if node.op_type != "Shape":
        return None
    bounds = {a.name: a.i for a in node.attribute}
    return np.array(shape[bounds.get("start", 0) : bounds.get("end", len(shape))], np.int64)


def dtype_in(known: TypeProto) -> np.dtype[Any]:
    return np.dtype(helper.tensor_dtype_to_np_dtype(known.tensor_type.elem_type))
