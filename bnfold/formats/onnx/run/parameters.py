"""A model whose stored tensors are fed with every run, so that they can be moved by rounding.

What is fed are the tensors as the file holds them, never a constant that bnfold computed from them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper

from bnfold.formats.onnx.edit.name_index import NameIndex
from bnfold.formats.onnx.file.tensors import TensorStore
from bnfold.formats.onnx.graph.model import OnnxModel
from bnfold.formats.onnx.graph.scopes import Scope
from bnfold.graph import Node
from bnfold.kinds import Linear
from bnfold.proof.comparison import ALLOWED_RATIO
from bnfold.proof.comparison import is_float_type as is_float
from bnfold.proof.perturbation import perturb, rounding

_FLOATS = {TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE}
_BIAS = 2
_FIRST_IR_WITH_CONSTANT_INITIALIZERS = 4


@dataclass(frozen=True, eq=False)
class FedModel:
    """A model's structure, and the tensors that it takes as inputs.

    ``movable`` are those that belong to the layers in question. ``factors`` are inputs that multiply
    constants which the file computes and does not store: one, or one moved by rounding. ``offsets``
    are added to biases that a plan rounds to whole steps: nothing, or as much as `rounding` gives.
    """

    proto: onnx.ModelProto
    tensors: Mapping[str, TensorProto]
    movable: frozenset[str]
    factors: Mapping[str, NDArray[Any]]
    offsets: Mapping[str, NDArray[Any]]
    store: TensorStore

    @cached_property
    def _places(self) -> dict[str, int]:
        return {name: place for place, name in enumerate((*self.tensors, *self.factors))}

    def feeds(self, names: Iterable[str], draw: int | None = None) -> dict[str, NDArray[Any]]:
        """The tensors among ``names``; those that may move, moved, where ``draw`` is given."""
        found = {}
        for name in names:
            if name in self.tensors:
                array = np.asarray(self.store.load(self.tensors[name]))
                if draw is not None and name in self.movable:
                    array = perturb(array, draw, self._places[name])
                found[name] = array
            elif name in self.factors:
                ones = self.factors[name]
                found[name] = ones if draw is None else perturb(ones, draw, self._places[name])
            elif name in self.offsets:
                steps = self.offsets[name]
                moved = None if draw is None else rounding(steps, draw, ALLOWED_RATIO)
                found[name] = np.zeros_like(steps) if moved is None else moved
        return found


def fed_model(
    model: OnnxModel, nodes: Iterable[Node] = (), rounded: Iterable[Node] = ()
) -> FedModel:
    """A copy of the structure that takes its large tensors, and all of ``nodes``, as inputs.

    Args:
        model: a file.
        nodes: the layers whose parameters can be moved.
        rounded: those of them whose quantised bias a plan rounds to whole steps.
    """
    proto = onnx.ModelProto()
    proto.CopyFrom(model.proto)
    # Before, every initializer had to be listed as an input as well.
    proto.ir_version = max(proto.ir_version, _FIRST_IR_WITH_CONSTANT_INITIALIZERS)
    index = NameIndex(proto.graph)
    tensors: dict[str, TensorProto] = {}
    movable: set[str] = set()
    sources, computed = _parameters(model, nodes)
    for place, name in sources:
        movable.add(_take_out(index, index.scopes[place], name, tensors))
    factors = dict(_multiply(index, model, computed))
    offsets = dict(_add_offsets(index, model, rounded))
    index.finish()
    graph = proto.graph
    large = {t.name for t in graph.initializer if t.data_type in _FLOATS and model.store.place(t)}
    for tensor in graph.initializer:
        if tensor.name in large:
            tensors.setdefault(tensor.name, tensor)
    _feed(graph, tensors)
    model.store.bring_in(graph.initializer)  # what is left: whole numbers, and small tensors
    return FedModel(proto, tensors, frozenset(movable), factors, offsets, model.store)


def _feed(graph: onnx.GraphProto, tensors: dict[str, TensorProto]) -> None:
    """Turns initializers of these names into inputs, and adds inputs for the others."""
    kept = [t for t in graph.initializer if t.name not in tensors]
    for name, tensor in list(tensors.items()):
        own = TensorProto()
        own.CopyFrom(tensor)
        tensors[name] = own
    rebuilt = onnx.GraphProto()
    rebuilt.initializer.extend(kept)
    del graph.initializer[:]
    graph.initializer.MergeFrom(rebuilt.initializer)
    listed = {i.name for i in graph.input}
    for name, tensor in tensors.items():
        if name not in listed:
            info = helper.make_tensor_value_info(name, tensor.data_type, list(tensor.dims))
            graph.input.append(info)


def _take_out(index: NameIndex, scope: Scope, name: str, tensors: dict[str, TensorProto]) -> str:
    """Makes all readers of a stored tensor read a graph input; returns the name of that."""
    tensor = _stored(scope, name)
    assert tensor is not None
    if scope.parent is None and name in scope.initializers:
        tensors[name] = tensor
        return name
    given = index.unique("bnfold_parameter")
    for read in list(index.readers(scope, name)):
        if read.node is not None:
            read.node.input[read.position] = given
    tensors[given] = tensor
    return given


Place = tuple[int, str]  # a scope, and a name in it


def _parameters(
    model: OnnxModel, nodes: Iterable[Node]
) -> tuple[list[Place], list[tuple[Scope, NodeProto, int]]]:
    """The stored float tensors that the constants of ``nodes`` come from; and the reads of those
    float constants that come from none."""
    sources: dict[Place, None] = {}
    computed: list[tuple[Scope, NodeProto, int]] = []
    for node in nodes:
        native = node.native
        for proto in filter(None, (native.proto, native.bias_add)):
            for position, name in enumerate(proto.input):
                if not name or not model.has_constant(native.scope, name):
                    continue
                quantised = model.constant(native.scope, name).quantised
                if quantised is not None:  # its scale is what a fold rounds
                    stored = quantised.native
                    computed.append((stored.scope, stored.dequantise, 1))
                    continue
                found = list(_sources(native.scope, name))
                sources |= dict.fromkeys(found)
                if not found and is_float(model.constant(native.scope, name).dtype):
                    computed.append((native.scope, proto, position))
    return list(sources), computed


def _sources(scope: Scope, name: str) -> Iterator[Place]:
    for owner, each in scope.made_of(name):
        tensor = _stored(owner, each)
        if tensor is not None and tensor.data_type in _FLOATS:
            yield owner.index, each


def _multiply(
    index: NameIndex, model: OnnxModel, reads: Iterable[tuple[Scope, NodeProto, int]]
) -> Iterator[tuple[str, NDArray[Any]]]:
    """Puts a product with an input of ones in front of each of ``reads``; gives these inputs."""
    copies = _copies(index, model)
    for scope, proto, position in reads:
        constant = model.constant(scope, proto.input[position])
        copy = copies[id(proto)]
        factor, product = index.unique("bnfold_factor"), index.unique("bnfold_moved")
        index.insert(helper.make_node("Mul", [copy.input[position], factor], [product]), copy)
        index.set_input(copy, position, product)
        code = helper.np_dtype_to_tensor_dtype(constant.dtype)
        main = index.scopes[0].graph
        main.input.append(helper.make_tensor_value_info(factor, code, constant.shape))
        yield factor, np.ones(constant.shape, constant.dtype)


def _add_offsets(
    index: NameIndex, model: OnnxModel, rounded: Iterable[Node]
) -> Iterator[tuple[str, NDArray[Any]]]:
    """Puts a sum with an input in front of quantised biases; gives each with its steps."""
    copies = _copies(index, model)
    for node in rounded:
        assert isinstance(node.kind, Linear) and node.kind.bias is not None
        bias, proto = node.kind.bias, copies[id(node.native.proto)]
        assert bias.quantised is not None
        steps = np.broadcast_to(bias.quantised.scale.float64().reshape(-1), bias.shape)
        offset, total = index.unique("bnfold_offset"), index.unique("bnfold_moved")
        index.insert(helper.make_node("Add", [proto.input[_BIAS], offset], [total]), proto)
        index.set_input(proto, _BIAS, total)
        code = helper.np_dtype_to_tensor_dtype(bias.dtype)
        main = index.scopes[0].graph
        main.input.append(helper.make_tensor_value_info(offset, code, bias.shape))
        yield offset, steps.astype(bias.dtype)


def _copies(index: NameIndex, model: OnnxModel) -> dict[int, NodeProto]:
    """The copy of each node of the model, by the identity of the original."""
    pairs = zip(model.scopes, index.scopes, strict=True)
    return {
        id(old): new
        for before, after in pairs
        for old, new in zip(before.graph.node, after.graph.node, strict=True)
    }


def _stored(scope: Scope, name: str) -> TensorProto | None:
    """An initializer, or the tensor of a Constant node."""
    if name in scope.initializers:
        return scope.initializers[name]
    node = scope.producers.get(name)
    if node is None or node.op_type != "Constant":
        return None
    return next((a.t for a in node.attribute if a.name == "value"), None)
