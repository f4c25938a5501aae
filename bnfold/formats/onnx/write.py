"""Carrying out a plan's edits on a copy of an ONNX model.

Every changed tensor becomes a new one whose elements are computed when the file is written: the
copy holds structure only. What nothing reads any more afterwards is dropped.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from functools import singledispatchmethod
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from bnfold.algebra.affine import Array
from bnfold.algebra.rounding import cast
from bnfold.formats.onnx.model import OnnxModel
from bnfold.formats.onnx.names import NameIndex
from bnfold.formats.onnx.scopes import Scope
from bnfold.graph import Affine, Constant, Linear, Node, Value
from bnfold.planning.decision import (
    Bypass,
    DropAddends,
    Edit,
    MergeBranches,
    Plan,
    Reconstant,
    Renorm,
    Revalue,
    Reweight,
)

Compute = Callable[[], NDArray[Any]]


class Editor:
    """A copy of a model's structure, and the tensors that are to be computed for it."""

    def __init__(self, model: OnnxModel) -> None:
        self.model = model
        self.proto = onnx.ModelProto()
        self.proto.CopyFrom(model.proto)
        self.index = NameIndex(self.proto.graph)
        self.computed: dict[str, Compute] = {}
        # Values of the original that go by another name in the copy.
        self.renamed: dict[str, str] = {}
        self._copies = {
            id(old): new
            for before, after in zip(model.scopes, self.index.scopes, strict=True)
            for old, new in zip(before.graph.node, after.graph.node, strict=True)
        }
        self._suspects: list[tuple[Scope, str]] = []

    def apply(self, plan: Plan) -> None:
        for edit in plan.edits:
            self.edit(edit)
        self._drop_unread()
        self._forget_dropped()
        self.index.finish()
        for opset in self.proto.opset_import if self.model.spelled_out else ():
            opset.domain = opset.domain or "ai.onnx"
        if self.model.freeze_initializers:
            self._freeze_initializers()

    @singledispatchmethod
    def edit(self, edit: Edit) -> None:
        raise TypeError(f"no writer for {type(edit).__name__}")

    @edit.register
    def _reweight(self, edit: Reweight) -> None:
        node, kind = edit.node, edit.kind
        proto = self.proto_of(node)
        if edit.out_scale is not None or edit.in_scale is not None or kind is not node.kind:
            position = 0 if kind.bias_axis == -2 else 1

            def weight() -> NDArray[Any]:
                scaled = kind.layout.scaled(kind.weight.load(), edit.out_scale, edit.in_scale)
                return cast(scaled, kind.weight.dtype)

            self.replace(proto, position, weight, kind.weight.shape, kind.weight.dtype)
        if edit.bias_changed and edit.bias is not None:
            self._set_bias(node, proto, cast(edit.bias, kind.weight.dtype))

    @edit.register
    def _reconstant(self, edit: Reconstant) -> None:
        kind = edit.node.kind
        assert isinstance(kind, Affine) and kind.constant is not None
        proto = self.proto_of(edit.node)
        position = 1 - _position_of(edit.node, edit.node.inputs[0])
        self.replace_array(proto, position, edit.constant, kind.constant)

    @edit.register
    def _renorm(self, edit: Renorm) -> None:
        proto, native = self.proto_of(edit.node), edit.node.native
        for position, array in ((1, edit.scale), (2, edit.shift)):
            like = self.model.constant(native.scope, native.proto.input[position])
            self.replace_array(proto, position, array, like)

    @edit.register
    def _revalue(self, edit: Revalue) -> None:
        assert edit.value.constant is not None
        proto = self.proto_of(edit.node)
        for position, name in enumerate(edit.node.native.proto.input):
            if name == edit.value.name:
                self.replace_array(proto, position, edit.constant, edit.value.constant)

    @edit.register
    def _bypass(self, edit: Bypass) -> None:
        proto = self.proto_of(edit.node)
        scope = self.index.home(proto)
        source, target = proto.input[_position_of(edit.node, edit.source)], proto.output[0]
        for name in proto.input:
            self._suspects.append((scope, name))
        self.index.remove(proto)
        producer = scope.producers.get(source)
        own = any(o.name == source for o in scope.graph.output)
        if producer is not None and not self.index.readers(scope, source) and not own:
            self._rename(producer, source, target)
            return
        if producer is not None and not own and self._gives_its_name(scope, source, target):
            self._rename(producer, source, target)
            for read in list(self.index.readers(scope, source)):
                assert read.node is not None
                self.index.set_input(read.node, read.position, target)
            return
        self.renamed[target] = self.renamed.get(source, source)
        for read in list(self.index.readers(scope, target)):
            if read.node is not None:
                self.index.set_input(read.node, read.position, source)
            else:  # a graph output keeps its name
                identity = helper.make_node("Identity", [source], [target], name=edit.node.name)
                self.index.insert(identity, proto)

    def _rename(self, producer: onnx.NodeProto, source: str, target: str) -> None:
        self.index.set_output(producer, list(producer.output).index(source), target)
        self.renamed = {a: target if b == source else b for a, b in self.renamed.items()}
        self.renamed[source] = target

    def _gives_its_name(self, scope: Scope, source: str, target: str) -> bool:
        """Whether ``source`` may go by the name ``target``, which a graph output needs."""
        needed = any(read.node is None for read in self.index.readers(scope, target))
        return needed and all(read.node for read in self.index.readers(scope, source))

    @edit.register
    def _merge(self, edit: MergeBranches) -> None:
        proto = self.proto_of(edit.node)
        geometry = edit.geometry
        _set_attribute(proto, "kernel_shape", edit.kernel)
        _set_attribute(proto, "dilations", geometry.dilations)
        _set_attribute(proto, "pads", (*geometry.pads_begin, *geometry.pads_end))
        for node in edit.gone:
            gone = self.proto_of(node)
            self._suspects += [(self.index.home(gone), name) for name in gone.input]
            self.index.remove(gone)

    @edit.register
    def _drop_addends(self, edit: DropAddends) -> None:
        proto = self.proto_of(edit.node)
        gone = {value.name for value in edit.values}
        original = edit.node.native.proto.input
        kept = [now for now, name in zip(proto.input, original, strict=True) if name not in gone]
        for position in range(len(proto.input)):
            self.index.set_input(proto, position, "")
        del proto.input[:]
        for position, name in enumerate(kept):
            self.index.set_input(proto, position, name)

    def proto_of(self, node: Node) -> onnx.NodeProto:
        """The copy of the proto behind a neutral node."""
        copy: onnx.NodeProto = self._copies[id(node.native.proto)]
        return copy

    def replace_array(
        self, proto: onnx.NodeProto, position: int, array: Array, like: Constant
    ) -> None:
        """Gives ``proto`` a constant of the type (and, where it fits, the rank) of ``like``."""
        while array.ndim > len(like.shape) and array.shape[0] == 1:
            array = array[0]
        result = cast(array, like.dtype)
        self.replace(proto, position, lambda: result, result.shape, like.dtype)

    def replace(
        self,
        proto: onnx.NodeProto,
        position: int,
        compute: Compute,
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
    ) -> None:
        """Makes ``proto`` read a new tensor, under the old name where nobody else reads that."""
        scope = self.index.home(proto)
        old = proto.input[position] if position < len(proto.input) else ""
        tensor = self._initializer_only_for(proto, scope, old)
        if tensor is None:
            hint = f"{old}_folded" if old else f"{proto.name or proto.output[0]}_bias"
            name = self.index.unique(hint)
            tensor = scope.graph.initializer.add(name=name)
            scope.initializers[name] = tensor
            self.index.set_input(proto, position, name)
            if old:
                self._suspects.append((scope, old))
            if self.proto.ir_version < 4 and scope.parent is None:
                code = helper.np_dtype_to_tensor_dtype(dtype)
                self.proto.graph.input.append(helper.make_tensor_value_info(name, code, shape))
                scope.inputs.add(name)
        name = tensor.name
        tensor.Clear()
        tensor.name, tensor.data_type = name, helper.np_dtype_to_tensor_dtype(dtype)
        tensor.dims.extend(shape)
        if scope.parent is None:
            self.computed[name] = compute
        else:
            tensor.raw_data = np.ascontiguousarray(compute()).tobytes()

    def _initializer_only_for(
        self, proto: onnx.NodeProto, scope: Scope, name: str
    ) -> onnx.TensorProto | None:
        """The initializer ``name``, where ``proto`` alone reads it."""
        if name not in scope.initializers:
            return None
        reads = self.index.readers(scope, name)
        alone = len(reads) == 1 and reads[0].node is proto
        listed = name in scope.inputs and self.proto.ir_version >= 4
        frozen = self.model.freeze_initializers
        return scope.initializers[name] if alone and (frozen or not listed) else None

    def _set_bias(self, node: Node, proto: onnx.NodeProto, bias: NDArray[Any]) -> None:
        kind, native = node.kind, node.native
        assert isinstance(kind, Linear)

        def give(to: onnx.NodeProto, position: int) -> None:
            self.replace(to, position, lambda: bias, bias.shape, bias.dtype)

        if proto.op_type != "MatMul":
            give(proto, 2)
            if kind.bias_factor != 1.0:
                _set_attribute(proto, "beta", 1.0)
        elif native.bias_add is not None:
            add = self._copies[id(native.bias_add)]
            give(add, 1 if add.input[0] in proto.output else 0)
        elif np.any(bias != 0):
            if self._becomes_gemm(node):
                proto.op_type = "Gemm"
                give(proto, 2)
            else:
                self._add_behind(proto, give)

    def _becomes_gemm(self, node: Node) -> bool:
        """A product of two matrices can carry its bias itself."""
        kind = node.kind
        assert isinstance(kind, Linear)
        matrices = len(kind.layout.shape) == 2 and kind.bias_axis == -1
        new_enough = self.model.opset >= 7
        return matrices and new_enough and self.model.graph.rank(node.inputs[0]) == 2

    def _add_behind(
        self, proto: onnx.NodeProto, give: Callable[[onnx.NodeProto, int], None]
    ) -> None:
        target = proto.output[0]
        inner = self.index.unique(f"{target}_product")
        scope = self.index.home(proto)
        add = helper.make_node(
            "Add", [inner], [target], name=self.index.unique(f"{proto.name or target}_bias_add")
        )
        self.index.insert_behind(add, proto)
        self.index.set_output(proto, 0, inner)
        scope.producers[target] = add
        give(add, 1)

    def _drop_unread(self) -> None:
        """Constants, and nodes that computed them, that lost their last reader by an edit."""
        while self._suspects:
            scope, name = self._suspects.pop()
            owner = scope.owner(name)
            if owner is None or self.index.readers(owner, name):
                continue
            if name in owner.initializers:
                self._drop_initializer(owner, name)
                continue
            node = owner.producers.get(name)
            if node is None or any(self.index.readers(owner, o) for o in node.output if o):
                continue
            self._suspects += [(owner, i) for i in node.input if i]
            self.index.remove(node)

    def _drop_initializer(self, scope: Scope, name: str) -> None:
        listed = name in scope.inputs and self.proto.ir_version >= 4
        if listed and not self.model.freeze_initializers:
            return  # a caller may pass it by name
        del scope.initializers[name]
        scope.inputs.discard(name)
        self.computed.pop(name, None)

    def _forget_dropped(self) -> None:
        """Takes dropped initializers, and type notes of values that are gone, out of the graphs."""
        for scope in self.index.scopes:
            _keep(scope.graph, "initializer", scope.initializers)
            _keep(scope.graph, "input", scope.inputs)
            known = {v.name for v in scope.graph.value_info if scope.owner(v.name)}
            _keep(scope.graph, "value_info", known)

    def _freeze_initializers(self) -> None:
        if self.proto.ir_version >= 4:
            given = {t.name for t in self.proto.graph.initializer}
            _keep(self.proto.graph, "input", {i.name for i in self.proto.graph.input} - given)


def _position_of(node: Node, value: Value) -> int:
    """At which input of the native node ``value`` flows in."""
    return list(node.native.proto.input).index(value.name)


def _keep(graph: onnx.GraphProto, field: str, names: Container[str]) -> None:
    """Removes the entries of a repeated field that are not in ``names``, in one pass."""
    entries = getattr(graph, field)
    kept = [entry for entry in entries if entry.name in names]
    if len(kept) < len(entries):
        rebuilt = onnx.GraphProto()
        getattr(rebuilt, field).extend(kept)
        del entries[:]
        entries.MergeFrom(getattr(rebuilt, field))


def _set_attribute(proto: onnx.NodeProto, name: str, value: float | Sequence[int]) -> None:
    kept = [a for a in proto.attribute if a.name != name]
    rebuilt = onnx.NodeProto()
    rebuilt.attribute.extend([*kept, helper.make_attribute(name, value)])
    del proto.attribute[:]
    proto.attribute.MergeFrom(rebuilt.attribute)
