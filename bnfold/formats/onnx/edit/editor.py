"""Carrying out a plan's edits on a copy of an ONNX model."""

from __future__ import annotations

from collections.abc import Callable
from functools import singledispatchmethod
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from bnfold.formats.onnx.edit.quantised import requantise
from bnfold.formats.onnx.edit.working_copy import WorkingCopy, set_attribute
from bnfold.formats.onnx.graph.model import OnnxModel
from bnfold.formats.onnx.graph.operators import PRODUCTS
from bnfold.formats.onnx.graph.scopes import Scope
from bnfold.graph import Node, Value
from bnfold.kinds import Affine, Linear, Norm
from bnfold.planning.decision import (
    Bypass,
    DropAddends,
    Edit,
    MergeBranches,
    Plan,
    Reconstant,
    Renorm,
    Requantise,
    Revalue,
    Reweight,
)
from bnfold.planning.forms import Lower

_BIAS_AT = {"DeformConv": 3}


class Editor:
    """The edits of a plan, made on a draft of the new model."""

    def __init__(self, model: OnnxModel) -> None:
        self.model = model
        self.draft = WorkingCopy(model)
        self.index = self.draft.index

    def apply(self, plan: Plan) -> WorkingCopy:
        """Makes all edits and returns the finished draft."""
        for edit in plan.edits:
            self.edit(edit)
        self.draft.finish()
        return self.draft

    @singledispatchmethod
    def edit(self, edit: Edit) -> None:
        raise TypeError(f"no writer for {type(edit).__name__}")

    @edit.register
    def _reweight(self, edit: Reweight) -> None:
        proto, kind = self._copy(edit.node), edit.kind
        if edit.weight_changed:
            position = 1 if _position_of(edit.node, edit.node.inputs[0]) == 0 else 0
            shape, dtype = kind.weight.shape, kind.weight.dtype
            self.draft.replace(proto, position, edit.weight_blocks, shape, dtype)
        if (bias := edit.new_bias()) is not None:
            self._set_bias(edit.node, proto, bias)

    @edit.register
    def _requantise(self, edit: Requantise) -> None:
        requantise(self.draft, edit)

    @edit.register
    def _reconstant(self, edit: Reconstant) -> None:
        kind = edit.node.kind
        assert isinstance(kind, Affine) and kind.constant is not None
        proto = self._copy(edit.node)
        position = 1 - _position_of(edit.node, edit.node.inputs[0])
        self.draft.replace_array(proto, position, edit.constant, kind.constant)

    @edit.register
    def _renorm(self, edit: Renorm) -> None:
        proto, native = self._copy(edit.node), edit.node.native
        for position, array in ((1, edit.scale), (2, edit.shift)):
            like = self.model.constant(native.scope, native.proto.input[position])
            self.draft.replace_array(proto, position, array, like)

    @edit.register
    def _lower(self, edit: Lower) -> None:
        """The operator is exchanged, and its parameters with it."""
        proto, kind = self._copy(edit.node), edit.node.kind
        assert isinstance(kind, Norm)
        for position in range(3, len(proto.input)):
            self.draft.forget_input(proto, position)
        for name in proto.output[1:]:  # statistics, which nothing reads
            self.index.home(proto).producers.pop(name, None)
        del proto.input[3:], proto.output[1:]
        factor, summand = edit.factor, edit.summand
        depthwise = edit.form == "depthwise"
        if not depthwise:
            self.draft.forget_input(proto, 2)
            del proto.input[2:]
        _becomes(proto, "Conv" if depthwise else "Add" if factor is None else "Mul")
        if depthwise:
            set_attribute(proto, "group", kind.channels)
            set_attribute(proto, "kernel_shape", (1,) * (edit.rank - 2))
        first = summand if factor is None else factor
        assert first is not None
        self._give(proto, 1, first)
        if depthwise and summand is not None:
            self._give(proto, 2, summand)
        elif factor is not None and summand is not None:
            self._add_behind(proto, lambda to, position: self._give(to, position, summand))

    def _give(self, proto: onnx.NodeProto, position: int, array: NDArray[Any]) -> None:
        self.draft.replace(proto, position, lambda: iter([array]), array.shape, array.dtype)

    @edit.register
    def _revalue(self, edit: Revalue) -> None:
        assert edit.value.constant is not None
        proto = self._copy(edit.node)
        for position, name in enumerate(edit.node.native.proto.input):
            if name == edit.value.name:
                self.draft.replace_array(proto, position, edit.constant, edit.value.constant)

    @edit.register
    def _bypass(self, edit: Bypass) -> None:
        proto = self._copy(edit.node)
        scope = self.index.home(proto)
        source, target = proto.input[_position_of(edit.node, edit.source)], proto.output[0]
        self.draft.remove(proto)
        producer = scope.producers.get(source)
        own = any(o.name == source for o in scope.graph.output)
        if producer is not None and not self.index.readers(scope, source) and not own:
            self.draft.rename(producer, source, target)
            return
        if producer is not None and not own and self._gives_its_name(scope, source, target):
            self.draft.rename(producer, source, target)
            for read in list(self.index.readers(scope, source)):
                assert read.node is not None
                self.index.set_input(read.node, read.position, target)
            return
        for read in list(self.index.readers(scope, target)):
            if read.node is not None:
                self.index.set_input(read.node, read.position, source)
            else:  # a graph output keeps its name
                identity = helper.make_node("Identity", [source], [target], name=edit.node.name)
                self.index.insert(identity, proto)

    def _gives_its_name(self, scope: Scope, source: str, target: str) -> bool:
        """Whether ``source`` may go by the name ``target``, which a graph output needs."""
        needed = any(read.node is None for read in self.index.readers(scope, target))
        return needed and all(read.node for read in self.index.readers(scope, source))

    @edit.register
    def _merge(self, edit: MergeBranches) -> None:
        proto, geometry = self._copy(edit.node), edit.geometry
        if geometry is not None:
            set_attribute(proto, "kernel_shape", edit.kernel)
            set_attribute(proto, "dilations", geometry.dilations)
            set_attribute(proto, "pads", (*geometry.pads_begin, *geometry.pads_end))
            set_attribute(proto, "auto_pad", None)
        for node in edit.gone:
            if node.native.bias_add is not None:
                self.draft.remove(self.draft.copy_of(node.native.bias_add))
            self.draft.remove(self._copy(node))

    @edit.register
    def _drop_addends(self, edit: DropAddends) -> None:
        proto = self._copy(edit.node)
        gone = {value.name for value in edit.values}
        original = edit.node.native.proto.input
        kept = [now for now, name in zip(proto.input, original, strict=True) if name not in gone]
        for position in range(len(proto.input)):
            self.index.set_input(proto, position, "")
        del proto.input[:]
        for position, name in enumerate(kept):
            self.index.set_input(proto, position, name)

    def _copy(self, node: Node) -> onnx.NodeProto:
        """The copy of the proto behind a neutral node."""
        return self.draft.copy_of(node.native.proto)

    def _set_bias(self, node: Node, proto: onnx.NodeProto, bias: NDArray[Any]) -> None:
        kind, native = node.kind, node.native
        assert isinstance(kind, Linear)

        def give(to: onnx.NodeProto, position: int) -> None:
            self._give(to, position, bias)

        if proto.op_type not in PRODUCTS:
            give(proto, _BIAS_AT.get(proto.op_type, 2))
            if kind.bias_factor != 1.0:
                set_attribute(proto, "beta", 1.0)
        elif native.bias_add is not None:
            add = self.draft.copy_of(native.bias_add)
            give(add, 1 if add.input[0] in proto.output else 0)
        elif np.any(bias != 0):
            if proto.op_type == "MatMul" and self._becomes_gemm(node):
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


def _position_of(node: Node, value: Value) -> int:
    """At which input of the native node ``value`` flows in."""
    return list(node.native.proto.input).index(value.name)


def _becomes(proto: onnx.NodeProto, op: str) -> None:
    """Another operator of the same name, with no attributes yet."""
    proto.op_type = op
    del proto.attribute[:]
