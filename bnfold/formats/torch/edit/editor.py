"""Carrying out a plan's edits on a copy of an exported program.

The graph is copied, tensors are not: a changed parameter becomes a new tensor under its old name,
or, where another call uses the old one, under a new name. The original program is never touched.
"""

from __future__ import annotations

import operator
from functools import singledispatchmethod
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.export import ExportedProgram
from torch.fx import Node as Call

from bnfold.algebra.rounding import cast
from bnfold.formats.torch.edit.working_copy import WorkingCopy
from bnfold.formats.torch.file.tensors import to_torch
from bnfold.formats.torch.graph.arguments import (
    arguments_of,
    base_name,
    mapped,
    operator_of,
    set_argument,
)
from bnfold.formats.torch.graph.model import TorchModel
from bnfold.formats.torch.graph.names import module_path
from bnfold.formats.torch.graph.read import Native
from bnfold.graph import Node
from bnfold.kinds import Affine, Linear, Norm
from bnfold.planning.decision import (
    Bypass,
    Edit,
    MergeBranches,
    Plan,
    Reconstant,
    Renorm,
    Revalue,
    Reweight,
)
from bnfold.planning.forms import Lower

_WEIGHTS = {"addmm": "mat2", "mm": "mat2", "bmm": "mat2", "matmul": "other"}


class Editor:
    """The edits of a plan, made on a draft of the new program."""

    def __init__(self, model: TorchModel) -> None:
        self.draft = WorkingCopy(model.program)
        self._calls = model.oracle.calls

    def apply(self, plan: Plan) -> ExportedProgram:
        """Makes all edits and returns the new program."""
        for edit in plan.edits:
            self.edit(edit)
        return self.draft.finish()

    @singledispatchmethod
    def edit(self, edit: Edit) -> None:
        raise TypeError(f"no writer for {type(edit).__name__}")

    @edit.register
    def _reweight(self, edit: Reweight) -> None:
        node, call = edit.node, self._call(edit.node)
        if edit.weight_changed and base_name(call) == "einsum":
            self._give_operand(node, call, edit.new_weight())
        elif edit.weight_changed:
            name = weight_argument(node)
            self._give(call, name, edit.new_weight(), self._hint(call, name, "weight"))
        if (bias := edit.new_bias()) is not None:
            self._set_bias(node, call, bias)

    def _set_bias(self, node: Node, call: Call, bias: NDArray[Any]) -> None:
        native: Native = node.native
        op = base_name(call)
        if op == "addmm":
            self._give(call, "self", bias, self._hint(call, "self", "bias"))
            set_argument(call, "beta", 1)
        elif "bias" in arguments_of(call):
            self._give(call, "bias", bias, self._hint(call, "bias", "bias"))
        elif native.bias_add is not None:
            add = self.draft.copies[native.bias_add]
            operand = "self" if arguments_of(native.bias_add)["other"] is native.call else "other"
            self._set_operand(add, operand, bias)
        elif np.any(bias != 0):
            hint = self._hint(call, weight_argument(node), "bias")
            parameter = self.draft.parameter(to_torch(bias), hint, call)
            self.draft.insert_behind(call, torch.ops.aten.add.Tensor, parameter)

    @edit.register
    def _reconstant(self, edit: Reconstant) -> None:
        kind, native = edit.node.kind, edit.node.native
        assert isinstance(kind, Affine) and kind.constant is not None
        operand = "other" if flow_argument(edit.node) == "self" else "self"
        array = kind.constant.fitted(edit.constant)
        self._set_operand(self.draft.copies[native.call], operand, array)

    def _set_operand(self, call: Call, name: str, array: NDArray[Any]) -> None:
        """A new constant operand of an element-wise operator, any factor on it already in it."""
        self._give(call, name, array, f"{module_path(call) or call.name}.constant")
        if operator_of(call)._overloadname == "Scalar":
            call.target = operator_of(call)._overloadpacket.Tensor
        if "alpha" in arguments_of(call):
            set_argument(call, "alpha", 1)

    @edit.register
    def _renorm(self, edit: Renorm) -> None:
        kind = edit.node.kind
        assert isinstance(kind, Norm)
        call = self._call(edit.node)
        if edit.node.native.frozen is not None:
            self._renorm_frozen(edit.node, edit, kind.dtype)
            return
        for name, array in (("weight", edit.scale), ("bias", edit.shift)):
            self._give(call, name, cast(array, kind.dtype), self._hint(call, name, name))

    def _renorm_frozen(self, node: Node, edit: Renorm, dtype: Any) -> None:
        """New elements for the buffers that scale and shift are computed from."""
        native: Native = node.native
        assert native.frozen is not None
        for name, array in (("weight", edit.scale), ("bias", edit.shift)):
            old = self.draft.copies[native.frozen.buffers[name]]
            tensor = to_torch(cast(array, dtype))
            readers = [self.draft.copies[call] for call in native.frozen.computing]
            readers = [reader for reader in readers if old in reader.all_input_nodes]
            if len(readers) == 1 and self.draft.replace_data(old, readers[0], tensor):
                continue
            hint = f"{node.name}.{name}"
            for reader in readers:
                reader.replace_input_with(old, self.draft.parameter(tensor, hint, reader))

    @edit.register
    def _lower(self, edit: Lower) -> None:
        """The call is exchanged, and its parameters with it."""
        call, factor, summand = self._call(edit.node), edit.factor, edit.summand
        hints = [self._hint(call, name, name) for name in ("weight", "bias")]
        source = arguments_of(call)["input"]
        call.target, call.args, call.kwargs = torch.ops.aten.add.Tensor, (source,), {}

        def given(array: NDArray[Any] | None, hint: str) -> Call | None:
            return None if array is None else self.draft.parameter(to_torch(array), hint, call)

        weight, bias = (given(a, hint) for a, hint in zip((factor, summand), hints, strict=True))
        if edit.form == "depthwise":
            assert isinstance(edit.node.kind, Norm)
            space, ones = edit.rank - 2, [1] * (edit.rank - 2)
            call.target = getattr(torch.ops.aten, f"conv{space}d").default
            slides = (ones, [0] * space, ones, edit.node.kind.channels)
            call.args = (source, weight, bias, *slides)
        elif weight is None:
            call.args = (source, bias)
        else:
            call.target, call.args = torch.ops.aten.mul.Tensor, (source, weight)
            if bias is not None:
                self.draft.insert_behind(call, torch.ops.aten.add.Tensor, bias)

    @edit.register
    def _revalue(self, edit: Revalue) -> None:
        constant = edit.value.constant
        assert constant is not None
        place = edit.node.inputs.index(edit.value)
        old = self.draft.copies[edit.node.native.flows[place]]
        call = self._call(edit.node)
        array = constant.fitted(edit.constant)
        if self.draft.replace_data(old, call, to_torch(array)):
            return
        hint = f"{module_path(call) or call.name}.constant"
        new = self.draft.parameter(to_torch(array), hint, call)
        call.args = tuple(mapped(call.args, lambda leaf: new if leaf is old else leaf))
        call.kwargs = mapped(call.kwargs, lambda leaf: new if leaf is old else leaf)

    @edit.register
    def _bypass(self, edit: Bypass) -> None:
        call = self._call(edit.node)
        source = self.draft.now(self._calls[edit.source])
        shown = [u for u in call.users if u.target is operator.getitem and u.args[1] == 0]
        for old in shown if _is_tuple(call) else [call]:
            self.draft.forward(old, self._laid_out(source, old))

    def _laid_out(self, source: Call, like: Call) -> Call:
        """``source`` in the memory layout of ``like``, which calls such as ``view`` rely on."""
        wanted, found = like.meta["val"], source.meta["val"]
        # Written out, as comparing symbols would add a guard.
        if str(wanted.stride()) == str(found.stride()) or not wanted.is_contiguous():
            return source
        copied = self.draft.insert_in_place_of(like, torch.ops.aten.clone.default, source)
        set_argument(copied, "memory_format", torch.contiguous_format)
        return copied

    @edit.register
    def _merge(self, edit: MergeBranches) -> None:
        """New settings; the branches that are gone lose their readers when the sums are bypassed."""
        call, geometry = self._call(edit.node), edit.geometry
        if geometry is None:
            return
        if operator_of(call)._overloadname == "padding":
            call.target = operator_of(call)._overloadpacket.default
        begin, end = geometry.pads_begin, geometry.pads_end
        common = [min(pair) for pair in zip(begin, end, strict=True)]
        set_argument(call, "dilation", list(geometry.dilations))
        set_argument(call, "padding", common)
        if begin != end:  # torch pads both sides alike; what one side has more goes before
            more = [(b - c, e - c) for b, e, c in zip(begin, end, common, strict=True)]
            pads = [n for pair in reversed(more) for n in pair]
            self.draft.insert_before(call, "input", torch.ops.aten.constant_pad_nd.default, pads)

    def _call(self, node: Node) -> Call:
        return self.draft.copies[node.native.call]

    def _give(self, call: Call, name: str, array: NDArray[Any], hint: str) -> None:
        """Makes ``call`` read new elements, under the old name where nobody else reads that."""
        old = arguments_of(call).get(name)
        tensor = to_torch(array)
        if isinstance(old, Call) and self.draft.replace_data(old, call, tensor):
            return
        set_argument(call, name, self.draft.parameter(tensor, hint, call))

    def _give_operand(self, node: Node, call: Call, array: NDArray[Any]) -> None:
        """The same for the constant among two operands that come as a list."""
        place = 1 - list(arguments_of(node.native.call)["tensors"]).index(node.native.flows[0])
        operands, tensor = list(arguments_of(call)["tensors"]), to_torch(array)
        if not self.draft.replace_data(operands[place], call, tensor):
            hint = self.draft.target(operands[place]) or f"{module_path(call) or call.name}.weight"
            operands[place] = self.draft.parameter(tensor, hint, call)
            set_argument(call, "tensors", operands)

    def _hint(self, call: Call, argument: str, leaf: str) -> str:
        """The name that a new parameter should get: beside the others of its module."""
        for name in (argument, "weight"):
            known = arguments_of(call).get(name)
            target = self.draft.target(known) if isinstance(known, Call) else None
            if target:
                return f"{target.rpartition('.')[0]}.{leaf}".lstrip(".")
        return f"{module_path(call) or call.name}.{leaf}"


def weight_argument(node: Node) -> str:
    """Under which name the native call of a linear node takes its weight."""
    kind = node.kind
    assert isinstance(kind, Linear)
    if kind.bias_axis == -2:
        return "self"
    return _WEIGHTS.get(base_name(node.native.call), "weight")


def flow_argument(node: Node) -> str:
    """Under which name the native call of a norm or an affine takes the value that flows."""
    if isinstance(node.kind, Norm):
        return "input"
    flow = node.native.flows[0]
    return next(name for name, item in arguments_of(node.native.call).items() if item is flow)


def _is_tuple(call: Call) -> bool:
    return isinstance(call.meta.get("val"), tuple | list)
