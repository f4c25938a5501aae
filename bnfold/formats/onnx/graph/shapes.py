"""Concrete shapes of every value, for one assignment of sizes to the dynamic axes.

Node by node: what computes on shapes is left to onnxruntime, everything else is asked of ONNX's own
shape inference, and where that knows nothing, what the file declares. Two assignments with different
sizes tell what depends on a size and what does not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TypeProto

from bnfold.constants import Shape
from bnfold.formats.onnx.graph.constants import Constants, is_deterministic, key_of
from bnfold.formats.onnx.graph.evaluation import STANDARD, Calculation, Piece, inputs_of, piece_of
from bnfold.formats.onnx.graph.inference import (
    Contradiction,
    may_steer,
    read_off,
    shape_in,
    tensor_type,
)
from bnfold.formats.onnx.graph.scopes import Scope

_SMALL = 1 << 14
_SHAPE_ARITHMETIC_TYPES = (np.integer, np.bool_, np.floating)


class Shapes:
    """Types, shapes and small known values in one assignment of sizes.

    ``contradicts`` says that the model does not take such sizes.
    """

    def __init__(
        self,
        scopes: list[Scope],
        constants: Constants,
        pieces: dict[str, Piece],
    ) -> None:
        """``pieces``: nodes that compute on shapes, kept from one assignment to the next."""
        self.contradicts = False
        self._scopes = scopes
        self._constants = constants
        self._pieces = pieces
        self._types: dict[str, TypeProto] = {}
        self._symbols: dict[str, int] = {}
        self._calculation = Calculation(constants.runtime, again=True)

    def propagate(self, batch: int, other: int) -> Shapes:
        """Fills in everything that follows from inputs of these sizes."""
        main = self._scopes[0]
        for value in main.graph.input:
            if value.name not in main.initializers:
                found = concrete(value.type, batch, other)
                self._types[key_of(main, value.name)] = found
                self._note_symbols(value.type, found)
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
        shape = shape_in(self._type(scope, name))
        return None if shape is None or 0 in shape else shape

    def value(self, scope: Scope, name: str) -> NDArray[Any] | None:
        """The elements of a small value that is constant or follows from shapes."""
        owner = scope.owner(name)
        key = key_of(owner, name) if owner else name
        if self._calculation.awaits(key):
            self._compute()
        return self._known_value(scope, name)

    def _known_value(self, scope: Scope, name: str) -> NDArray[Any] | None:
        """The same, of what need not be computed first."""
        owner = scope.owner(name)
        if owner is None:
            return None
        found = self._calculation.values.get(key_of(owner, name))
        if found is not None:
            return found
        constant = self._constants.find(scope, name)
        if constant is not None and prod(constant.shape) <= _SMALL:
            return constant.load()
        return None

    def _type(self, scope: Scope, name: str) -> TypeProto | None:
        owner = scope.owner(name)
        return self._types.get(key_of(owner, name)) if owner is not None else None

    def _walk(self, scope: Scope) -> None:
        declared = {v.name: v.type for v in (*scope.graph.output, *scope.graph.value_info)}
        for position, node in enumerate(scope.graph.node):
            for body in scope.bodies.get(position, ()):
                for value in body.graph.input:
                    self._types[key_of(body, value.name)] = value.type
                self._walk(body)
            if node.output and self._constants.find(scope, node.output[0]) is None:
                self._settle(scope, node, declared)

    def _settle(
        self, scope: Scope, node: onnx.NodeProto, declared: Mapping[str, TypeProto]
    ) -> None:
        """Types of what a node makes; its elements as well, where they follow from shapes."""
        told = self._told(scope, node)
        if told is not None:
            self._calculation.values[key_of(scope, node.output[0])] = told
            self._types[key_of(scope, node.output[0])] = tensor_type(told.dtype, told.shape)
            return
        nodes = scope.chain(node)
        types = self._inferred(scope, node) if len(nodes) == 1 else self._entry(scope, *nodes)
        for name in filter(None, node.output):
            found = types.get(name)
            if shape_in(found) is None and name in declared:
                stated = self._resolved(declared[name])
                found = stated if found is None or shape_in(stated) is not None else found
            if found is not None:
                self._types[key_of(scope, name)] = found
        if self._is_arithmetic(scope, nodes):
            self._await(scope, nodes)

    def _told(self, scope: Scope, node: onnx.NodeProto) -> NDArray[Any] | None:
        if node.op_type not in ("Shape", "Size") or node.domain not in STANDARD:
            return None
        shape = self.shape(scope, node.input[0])
        return None if shape is None else read_off(node, shape)

    def _is_arithmetic(self, scope: Scope, nodes: Sequence[onnx.NodeProto]) -> bool:
        """Known small inputs, known small outputs."""
        node, names = nodes[-1], inputs_of(nodes)
        if not names or not is_deterministic(node):
            return False
        outputs = [shape_in(self._type(scope, name)) for name in node.output if name]
        if any(shape is None or prod(shape) > _SMALL for shape in outputs):
            return False
        return all(self._is_number(scope, name) for name in names)

    def _is_number(self, scope: Scope, name: str) -> bool:
        owner = scope.owner(name)
        if owner is None:
            return False
        key = key_of(owner, name)
        if self._calculation.awaits(key) or key in self._calculation.values:
            return True
        constant = self._constants.find(scope, name)
        return (
            constant is not None
            and prod(constant.shape) <= _SMALL
            and issubclass(constant.dtype.type, _SHAPE_ARITHMETIC_TYPES)
        )

    def _await(self, scope: Scope, nodes: Sequence[onnx.NodeProto]) -> None:
        def key(name: str) -> str:
            return key_of(scope.owner(name) or scope, name)

        made = key(next(filter(None, nodes[-1].output)))
        if made not in self._pieces:
            self._pieces[made] = piece_of(nodes, key)
        piece = self._pieces[made]
        for name in inputs_of(nodes):
            if not self._calculation.has(key(name)):
                value = self._known_value(scope, name)
                assert value is not None
                self._calculation.fix(key(name), value)
        self._calculation.add(piece, [0] * len(piece.makes))

    def _compute(self) -> None:
        """Runs the arithmetic that waits."""
        for name in self._calculation.run()[0]:
            array = self._calculation.values[name]
            self._types[name] = tensor_type(array.dtype, array.shape)

    def _inferred(self, scope: Scope, node: onnx.NodeProto) -> Mapping[str, TypeProto]:
        types: dict[str, TypeProto] = {}
        for name in filter(None, node.input):
            known = self._type(scope, name) or self._constant_type(scope, name)
            if known is not None:
                types[name] = known
        inference = self._constants.inference
        try:
            found = inference.outputs(node, types, self._data(scope, types))
            if self._waits(scope, types) and any(shape_in(t) is None for t in found.values()):
                self._compute()
                found = inference.outputs(node, types, self._data(scope, types))
        except Contradiction:
            self.contradicts = True
            return {}
        return found

    def _waits(self, scope: Scope, names: Mapping[str, TypeProto]) -> bool:
        owners = [(scope.owner(name), name) for name in names]
        return any(o is not None and self._calculation.awaits(key_of(o, n)) for o, n in owners)

    def _data(self, scope: Scope, types: Mapping[str, TypeProto]) -> dict[str, NDArray[Any]]:
        steering = {n: self._known_value(scope, n) for n, t in types.items() if may_steer(t)}
        return {name: array for name, array in steering.items() if array is not None}

    def _entry(
        self, scope: Scope, cut: onnx.NodeProto, pick: onnx.NodeProto
    ) -> dict[str, TypeProto]:
        """One entry of a sequence has a shape of its own, which no type of the sequence tells."""
        source = cut.input[0]
        known = self._type(scope, source) or self._constant_type(scope, source)
        shape = self.shape(scope, source)
        if known is None or shape is None:
            return {}
        axis = next((a.i for a in cut.attribute if a.name == "axis"), 0) % len(shape)
        thin = tuple(n if i == axis else 1 for i, n in enumerate(shape))
        values = {name: self.value(scope, name) for name in inputs_of([cut, pick])[1:]}
        feeds = {name: a for name, a in values.items() if a is not None}
        piece = piece_of([cut, pick], str)
        fixed = {source: np.zeros(thin, np.float32)}
        try:
            entry = self._constants.runtime.run([piece], feeds | fixed, {}, {piece.makes[0]: 0})
        except NotImplementedError:  # sizes that do not add up, a position beyond the last entry
            self.contradicts = True
            return {}
        found = entry[piece.makes[0]].shape
        sizes = list(shape)
        sizes[axis : axis + 1] = found[axis : axis + 1] if len(found) == len(shape) else ()
        result = TypeProto()
        result.CopyFrom(known)
        result.tensor_type.ClearField("shape")
        for size in sizes:
            result.tensor_type.shape.dim.add(dim_value=size)
        return {pick.output[0]: result}

    def _constant_type(self, scope: Scope, name: str) -> TypeProto | None:
        constant = self._constants.find(scope, name)
        return None if constant is None else tensor_type(constant.dtype, constant.shape)

    def _note_symbols(self, declared: TypeProto, found: TypeProto) -> None:
        pairs = zip(declared.tensor_type.shape.dim, found.tensor_type.shape.dim, strict=True)
        for before, after in pairs:
            if before.dim_param:
                self._symbols.setdefault(before.dim_param, after.dim_value)

    def _resolved(self, declared: TypeProto) -> TypeProto:
        """A declared type, with the sizes that its symbols have at the inputs."""
        result = TypeProto()
        result.CopyFrom(declared)
        for dim in result.tensor_type.shape.dim if result.HasField("tensor_type") else ():
            size = self._symbols.get(dim.dim_param)
            if size is not None:
                dim.dim_value = size
            elif not _is_known(dim):
                dim.Clear()
        return result


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


def only_first_axes_are_dynamic(graph: onnx.GraphProto) -> bool:
    """Whether all axes of all inputs but the first have fixed sizes."""
    shapes = [i.type.tensor_type.shape for i in graph.input if i.type.HasField("tensor_type")]
    return all(_is_known(dim) for shape in shapes for dim in shape.dim[1:])


def _is_known(dim: onnx.TensorShapeProto.Dimension) -> bool:
    return bool(dim.HasField("dim_value")) and dim.dim_value > 0
