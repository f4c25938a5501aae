"""A new ONNX model in the making: structure, and how to compute the tensors that are new in it.

Every changed tensor becomes a new one whose elements are computed when the file is written: the
copy holds structure only. What nothing reads any more afterwards is dropped.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from bnfold.algebra.affine import Array
from bnfold.constants import Constant
from bnfold.formats.onnx.edit.name_index import NameIndex
from bnfold.formats.onnx.file.tensors import raw_bytes
from bnfold.formats.onnx.graph.model import OnnxModel
from bnfold.formats.onnx.graph.scopes import Scope

# New elements in row-major order, in blocks of which each holds only until the next is asked for.
Compute = Callable[[], Iterator[NDArray[Any]]]


class WorkingCopy:
    """A copy of a model's structure, on which nodes and tensors are exchanged.

    ``computed`` are the new tensors of the main graph.
    """

    def __init__(self, model: OnnxModel) -> None:
        self.model = model
        self.proto = onnx.ModelProto()
        self.proto.CopyFrom(model.proto)
        self.index = NameIndex(self.proto.graph)
        self.computed: dict[str, Compute] = {}
        self._copies = {
            id(old): new
            for before, after in zip(model.scopes, self.index.scopes, strict=True)
            for old, new in zip(before.graph.node, after.graph.node, strict=True)
        }
        self._suspects: list[tuple[Scope, str]] = []
        self._declared: dict[int, dict[str, onnx.TypeProto]] = {}

    def copy_of(self, proto: onnx.NodeProto) -> onnx.NodeProto:
        """The copy of a node of the original."""
        copy: onnx.NodeProto = self._copies[id(proto)]
        return copy

    def remove(self, proto: onnx.NodeProto) -> None:
        """Takes a node of the copy out, and in the end what nobody else reads of its inputs."""
        self._suspect(self.index.home(proto), proto.input)
        self.index.remove(proto)

    def forget_input(self, proto: onnx.NodeProto, position: int) -> None:
        """``proto`` no longer reads what it read there."""
        self._suspect(self.index.home(proto), [proto.input[position]])
        self.index.set_input(proto, position, "")

    def replace_array(
        self, proto: onnx.NodeProto, position: int, array: Array, like: Constant
    ) -> None:
        """Gives ``proto`` a constant of the type (and, where it fits, the rank) of ``like``."""
        result = like.fitted(array)
        self.replace(proto, position, lambda: iter([result]), result.shape, like.dtype)

    def replace(
        self,
        proto: onnx.NodeProto,
        position: int,
        compute: Compute,
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
        what: str = "bias",
    ) -> None:
        """Makes ``proto`` read a new tensor, under the old name where nobody else reads that.

        Args:
            proto: a node of the copy.
            position: of the input, which it need not have yet.
            compute: brings the elements.
            shape: of them.
            dtype: of them.
            what: names an input that it had not.
        """
        scope = self.index.home(proto)
        old = proto.input[position] if position < len(proto.input) else ""
        tensor = self._initializer_only_for(proto, scope, old)
        if tensor is None:
            hint = f"{old}_folded" if old else f"{proto.name or proto.output[0]}_{what}"
            name = self.index.unique(hint)
            tensor = scope.graph.initializer.add(name=name)
            scope.initializers[name] = tensor
            self.index.set_input(proto, position, name)
            self._suspect(scope, [old])
            if self.proto.ir_version < 4 and scope.parent is None:
                code = helper.np_dtype_to_tensor_dtype(dtype)
                self.proto.graph.input.append(helper.make_tensor_value_info(name, code, shape))
                scope.inputs.add(name)
        name = tensor.name
        tensor.Clear()
        tensor.name, tensor.data_type = name, helper.np_dtype_to_tensor_dtype(dtype)
        tensor.dims.extend(shape)
        self._declare(scope, tensor)
        if scope.parent is None:
            self.computed[name] = compute
        else:
            tensor.raw_data = b"".join(map(bytes, raw_bytes(compute(), tensor.data_type)))

    def read_same(self, proto: onnx.NodeProto, other: onnx.NodeProto, position: int) -> None:
        """Makes ``proto`` read what ``other`` reads at ``position``."""
        old = proto.input[position] if position < len(proto.input) else ""
        self.index.set_input(proto, position, other.input[position])
        self._suspect(self.index.home(proto), [old])

    def _declare(self, scope: Scope, tensor: onnx.TensorProto) -> None:
        """Corrects what the graph says about a tensor beside the tensor itself."""
        if scope.index not in self._declared:
            stated = (*scope.graph.input, *scope.graph.value_info)
            self._declared[scope.index] = {
                value.name: value.type for value in stated if value.name in scope.initializers
            }
        declared = self._declared[scope.index].get(tensor.name)
        if declared is not None:
            declared.CopyFrom(helper.make_tensor_type_proto(tensor.data_type, list(tensor.dims)))

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

    def rename(self, producer: onnx.NodeProto, source: str, target: str) -> None:
        """Gives the output ``source`` of a node another name; its readers are the caller's business."""
        self.index.set_output(producer, list(producer.output).index(source), target)

    def finish(self) -> None:
        """Drops what nothing reads any more, and writes the node lists back."""
        self._drop_unread()
        self._forget_dropped()
        self.index.finish()
        for opset in self.proto.opset_import if self.model.spelled_out else ():
            opset.domain = opset.domain or "ai.onnx"
        if self.model.freeze_initializers:
            self._freeze_initializers()

    def _suspect(self, scope: Scope, names: Iterable[str]) -> None:
        self._suspects += [(scope, name) for name in names if name]

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
            self.remove(node)

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


def _keep(graph: onnx.GraphProto, field: str, names: Container[str]) -> None:
    """Removes the entries of a repeated field that are not in ``names``, in one pass."""
    entries = getattr(graph, field)
    kept = [entry for entry in entries if entry.name in names]
    if len(kept) < len(entries):
        rebuilt = onnx.GraphProto()
        getattr(rebuilt, field).extend(kept)
        del entries[:]
        entries.MergeFrom(getattr(rebuilt, field))


def set_attribute(proto: onnx.NodeProto, name: str, value: float | Sequence[int] | None) -> None:
    """Replaces an attribute; None takes it away."""
    rebuilt = onnx.NodeProto()
    rebuilt.attribute.extend(a for a in proto.attribute if a.name != name)
    if value is not None:
        rebuilt.attribute.append(helper.make_attribute(name, value))
    del proto.attribute[:]
    proto.attribute.MergeFrom(rebuilt.attribute)
