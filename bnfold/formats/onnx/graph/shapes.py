"""Concrete shapes of every value, for one assignment of sizes to the dynamic axes.

Node by node: what computes on shapes is evaluated, everything else is asked of ONNX's own shape
inference. Two assignments with different sizes tell what depends on a size and what does not.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TypeProto, defs, shape_inference

from bnfold.formats.onnx.graph.constants import Constants, evaluate, inputs_of
from bnfold.formats.onnx.graph.scopes import Scope
from bnfold.graph import Shape

# Tried in turn: sizes for the first axis (the batch) and for any other dynamic axis.
Sizes = tuple[int, int]
SIZES: tuple[Sizes, ...] = (
    (2, 64),
    (3, 80),
    (4, 96),
    (3, 32),
    (2, 224),
    (4, 256),
    (8, 128),
    (1, 16),
    (2, 8),
)
# Comparisons try an odd size as well, where the model takes one: what depends on divisibility shows.
INPUT_SIZES = (SIZES[0], (3, 77), *SIZES[1:])
_SMALL = 1 << 14
_SHAPE_ARITHMETIC_TYPES = (np.integer, np.bool_, np.floating)


class Shapes:
    """Types, shapes and small known values in one assignment of sizes."""

    def __init__(self, model: onnx.ModelProto, scopes: list[Scope], constants: Constants) -> None:
        self._model = model
        self._scopes = scopes
        self._constants = constants
        self._opsets = {o.domain: o.version for o in model.opset_import}
        self._types: dict[tuple[int, str], TypeProto] = {}
        self._values: dict[tuple[int, str], NDArray[Any]] = {}

    def propagate(self, batch: int, other: int) -> Shapes:
        """Fills in everything that follows from inputs of these sizes."""
        main = self._scopes[0]
        for value in main.graph.input:
            if value.name not in main.initializers:
                self._types[0, value.name] = concrete(value.type, batch, other)
        self._walk(main)
        return self

    @property
    def complete(self) -> bool:
        """Whether every output of the main graph has a shape."""
        return all(self.shape(self._scopes[0], o.name) for o in self._scopes[0].graph.output)

    def shape(self, scope: Scope, name: str) -> Shape | None:
        constant = self._constants.find(scope, name)
        if constant is not None:
            return constant.shape
        found = self._type(scope, name)
        if found is None or not found.tensor_type.HasField("shape"):
            return None
        dims = found.tensor_type.shape.dim
        return tuple(d.dim_value for d in dims) if all(map(_is_known, dims)) else None

    def value(self, scope: Scope, name: str) -> NDArray[Any] | None:
        """The elements of a small value that is constant or follows from shapes."""
        owner = scope.owner(name)
        if owner is not None and (owner.index, name) in self._values:
            return self._values[owner.index, name]
        constant = self._constants.find(scope, name)
        if constant is not None and np.prod(constant.shape) <= _SMALL:
            return constant.load()
        return None

    def _type(self, scope: Scope, name: str) -> TypeProto | None:
        owner = scope.owner(name)
        return self._types.get((owner.index, name)) if owner is not None else None

    def _walk(self, scope: Scope) -> None:
        for position, node in enumerate(scope.graph.node):
            for body in scope.bodies.get(position, ()):
                for value in body.graph.input:
                    self._types[body.index, value.name] = value.type
                self._walk(body)
            if not self._evaluate(scope, node):
                self._infer(scope, node)

    def _evaluate(self, scope: Scope, node: onnx.NodeProto) -> bool:
        """Shape arithmetic: known small inputs give known small outputs."""
        if node.domain not in ("", "ai.onnx") or not node.input:
            return False
        if node.op_type == "Shape":
            shape = self.shape(scope, node.input[0])
            if shape is None:
                return False
            bounds = {a.name: a.i for a in node.attribute}
            dims = shape[bounds.get("start", 0) : bounds.get("end", len(shape))]
            self._store(scope, node.output[0], np.array(dims, np.int64))
            return True
        if scope.owner(node.output[0]) and self._constants.find(scope, node.output[0]):
            return True
        nodes = scope.chain(node)
        feeds: dict[str, NDArray[Any]] = {}
        for name in inputs_of(nodes):
            value = self.value(scope, name)
            if value is None or not issubclass(value.dtype.type, _SHAPE_ARITHMETIC_TYPES):
                return False
            feeds[name] = value
        try:
            results = evaluate(nodes, feeds, self._opsets)
        except Exception:  # the reference evaluator raises whatever its operators raise
            return False
        for name, result in zip(node.output, results, strict=False):
            if name and result.size <= _SMALL:
                self._store(scope, name, result)
        return all((scope.index, name) in self._values for name in node.output if name)

    def _store(self, scope: Scope, name: str, value: NDArray[Any]) -> None:
        self._values[scope.index, name] = value
        code = onnx.helper.np_dtype_to_tensor_dtype(value.dtype)
        self._types[scope.index, name] = onnx.helper.make_tensor_type_proto(code, value.shape)

    def _infer(self, scope: Scope, node: onnx.NodeProto) -> None:
        nodes = scope.chain(node)
        if len(nodes) > 1:
            self._infer_entry(scope, *nodes)
            return
        version = self._opsets.get(node.domain)
        types: dict[str, TypeProto] = {}
        data: dict[str, onnx.TensorProto] = {}
        for name in filter(None, node.input):
            known = self._type(scope, name) or self._constant_type(scope, name)
            if known is not None:
                types[name] = known
            value = self.value(scope, name) if self._may_steer(known) else None
            if value is not None:
                data[name] = onnx.numpy_helper.from_array(np.ascontiguousarray(value), name)
        try:
            schema = defs.get_schema(node.op_type, version or 1, node.domain)
            outputs = shape_inference.infer_node_outputs(
                schema,
                node,
                types,
                data,
                opset_imports=list(self._model.opset_import),
                ir_version=self._model.ir_version,
            )
        except Exception:  # unknown operators and contradictory shapes: the outputs stay unknown
            return
        for name, found in outputs.items():
            self._types[scope.index, name] = found

    def _infer_entry(self, scope: Scope, cut: onnx.NodeProto, pick: onnx.NodeProto) -> None:
        """One entry of a sequence has a shape of its own, which no type of the sequence tells."""
        source = cut.input[0]
        known = self._type(scope, source) or self._constant_type(scope, source)
        shape = self.shape(scope, source)
        settings = {name: self.value(scope, name) for name in inputs_of([cut, pick])[1:]}
        if known is None or shape is None:
            return
        feeds = {name: a for name, a in settings.items() if a is not None}
        feeds[source] = np.broadcast_to(np.int8(0), shape)
        try:
            entry = evaluate([cut, pick], feeds, self._opsets)[0]
        except Exception:  # sizes that do not add up, a position beyond the last entry
            return
        code = known.tensor_type.elem_type
        self._types[scope.index, pick.output[0]] = onnx.helper.make_tensor_type_proto(
            code, entry.shape
        )

    @staticmethod
    def _may_steer(known: TypeProto | None) -> bool:
        """Whether elements of that type can decide a shape (sizes, axes; scales of a resize)."""
        return known is not None and known.tensor_type.elem_type in (
            onnx.TensorProto.INT64,
            onnx.TensorProto.INT32,
            onnx.TensorProto.FLOAT,
        )

    def _constant_type(self, scope: Scope, name: str) -> TypeProto | None:
        constant = self._constants.find(scope, name)
        if constant is None:
            return None
        code = onnx.helper.np_dtype_to_tensor_dtype(constant.dtype)
        return onnx.helper.make_tensor_type_proto(code, constant.shape)


def concrete(declared: TypeProto, batch: int, other: int) -> TypeProto:
    """A declared type with sizes for its dynamic axes; unchanged where it has no rank."""
    result = TypeProto()
    result.CopyFrom(declared)
    if result.HasField("tensor_type") and result.tensor_type.HasField("shape"):
        for axis, dim in enumerate(result.tensor_type.shape.dim):
            if not _is_known(dim):
                dim.Clear()
                dim.dim_value = batch if axis == 0 else other
    return result


def is_static(graph: onnx.GraphProto) -> bool:
    """Whether all axes of all inputs have fixed sizes."""
    shapes = [i.type.tensor_type.shape for i in graph.input if i.type.HasField("tensor_type")]
    return all(_is_known(dim) for shape in shapes for dim in shape.dim)


def _is_known(dim: onnx.TensorShapeProto.Dimension) -> bool:
    return bool(dim.HasField("dim_value")) and dim.dim_value > 0
