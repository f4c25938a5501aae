"""An ONNX file as plain data, for the proof that the written file is the original plus the plan."""

from __future__ import annotations

from collections.abc import Container, Hashable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
from onnx import helper

from bnfold.constants import Constant
from bnfold.formats.onnx.file.tensors import TensorStore
from bnfold.formats.onnx.graph.model import OnnxModel
from bnfold.formats.onnx.graph.quantised import StoredAt
from bnfold.formats.onnx.graph.scopes import Scope, scopes_of
from bnfold.graph import Node, Value
from bnfold.proof.listing import Call, Listing, Places, Tensor

_ADJUSTABLE = {
    "Gemm": frozenset({"beta"}),
    "DequantizeLinear": frozenset({"axis"}),
    "QuantizeLinear": frozenset({"axis"}),
    "com.microsoft::DequantizeLinear": frozenset({"axis"}),
    "com.microsoft::QuantizeLinear": frozenset({"axis"}),
}
_SLIDING = frozenset({"kernel_shape", "dilations", "pads", "auto_pad"})
_PROVENANCE = "the provenance in the metadata"


def listing_of(model: OnnxModel, *, frozen: bool = False, apart: Container[str] = ()) -> Listing:
    """Everything that stands in the file of ``model``.

    Args:
        model: an opened file.
        frozen: initializers that are also graph inputs were taken for constants.
        apart: keys of the metadata that are listed by themselves, as the provenance.
    """
    scopes = scopes_of(model.proto.graph)
    graph = model.proto.graph
    given = {tensor.name: tensor for tensor in graph.initializer}
    facts = _facts(model.proto, apart)
    if not frozen and model.proto.ir_version >= 4:
        facts["inputs with a default"] = tuple(i.name for i in graph.input if i.name in given)
    # An input that holds a constant may come and go with what reads it, declared as the tensor is.
    held: dict[str, Hashable] = {}
    outputs = {output.name for output in graph.output}
    for value in (*graph.input, *graph.output):
        stored = given.get(value.name)
        holds = stored is not None and value.name not in outputs
        if stored is not None and holds and value == _as_stored(stored):
            continue
        where = held if holds else facts
        where[f"the declared type of '{value.name}'"] = _declared(value, stored)
    return Listing(
        calls=tuple(call for scope in scopes for call in _calls_of(scope)),
        tensors={
            qualified(scope, t.name): _tensor(t, model.store)
            for scope in scopes
            for t in scope.graph.initializer
        },
        inputs=tuple(i.name for i in graph.input if i.name not in given),
        outputs=tuple(o.name for o in graph.output),
        facts=facts,
        remarks=held
        | {
            f"the type of '{qualified(scope, v.name)}'": v.SerializeToString()
            for scope in scopes
            for v in scope.graph.value_info
        },
    )


def with_provenance(listing: Listing, entries: Mapping[str, str]) -> Listing:
    """The listing of a file as it has to be with exactly these entries in its metadata."""
    expected = (onnx.StringStringEntryProto(key=k, value=v) for k, v in entries.items())
    return replace(listing, facts={**listing.facts, _PROVENANCE: _serialized(expected)})


def places_of(model: OnnxModel) -> Places:
    """Where the nodes of the model's neutral graph stand in its listing."""
    order: dict[int, int] = {}
    count = 0
    for scope in model.scopes:
        count += 1  # the entry of what flows into the body
        for proto in scope.graph.node:
            order[id(proto)] = count
            count += 1
        count += 1

    def calls_of(node: Node) -> tuple[int, ...]:
        protos = (node.native.proto, node.native.bias_add)
        return tuple(order[id(proto)] for proto in protos if proto is not None)

    def stored_at(constant: Constant) -> tuple[int, ...]:
        native = None if constant.quantised is None else constant.quantised.native
        protos = (native.dequantise, native.quantise) if isinstance(native, StoredAt) else ()
        return tuple(order[id(proto)] for proto in protos if proto is not None)

    def name_of(value: Value) -> str:
        return qualified(model.scopes[value.scope], value.name)

    return Places(
        calls_of,
        name_of,
        adds=frozenset({"Add"}),
        copies=frozenset({"Identity"}),
        pads=frozenset(),
        adjustable=lambda op, merged: _adjustable(op) | (_SLIDING if merged else frozenset()),
        becomes=lambda op, other: (op, other) == ("MatMul", "Gemm"),
        lowers_to=_lowers_to,
        stored_at=stored_at,
    )


def _adjustable(op: str) -> frozenset[str]:
    """A new bias is given whole, without the factor that the old one had; scales may become one for
    each channel."""
    return _ADJUSTABLE.get(op, frozenset())


_LOWERED = {"product": "Mul", "sum": "Add", "depthwise": "Conv"}


def _lowers_to(call: Call, role: str, channels: int, rank: int) -> tuple[str, dict[str, Hashable]]:
    """What stands for a norm in a role; notes at the norm stay at it."""
    kept = ("the documentation", "the metadata", "the overload")
    settings = {key: call.settings[key] for key in kept}
    settings["which outputs are there"] = (True,)
    if role == "depthwise":
        for name, value in (("group", channels), ("kernel_shape", [1] * (rank - 2))):
            settings[name] = helper.make_attribute(name, value).SerializeToString()
    return _LOWERED[role], settings


def qualified(scope: Scope, name: str) -> str:
    """A name that is unique over all bodies; those of the main graph stay as they are."""
    owner = scope.owner(name) or scope
    return name if owner.parent is None else f"body {owner.index}: {name}"


def _calls_of(scope: Scope) -> Iterator[Call]:
    """The nodes of a body, between entries for what flows into it and out of it."""
    own = [i.name for i in scope.graph.input] if scope.parent is not None else []
    yield Call("(inputs)", str(scope.index), {}, (), tuple(qualified(scope, n) for n in own))
    for node in scope.graph.node:
        yield Call(
            _operator(node),
            node.name,
            dict(_settings(node)),
            tuple(qualified(scope, name) if name else None for name in _trimmed(node.input)),
            tuple(qualified(scope, name) for name in node.output if name),
        )
    returned = [o.name for o in scope.graph.output] if scope.parent is not None else []
    names = tuple(qualified(scope, name) for name in returned)
    yield Call("(outputs)", str(scope.index), {}, names, ())


def _operator(node: onnx.NodeProto) -> str:
    domain = "" if node.domain == "ai.onnx" else node.domain
    return f"{domain}::{node.op_type}" if domain else str(node.op_type)


def _trimmed(names: object) -> list[str]:
    found = list(names)  # type: ignore[call-overload]
    while found and not found[-1]:
        found.pop()
    return [str(name) for name in found]


def _settings(node: onnx.NodeProto) -> Iterator[tuple[str, Hashable]]:
    yield "the documentation", node.doc_string
    yield "the metadata", _serialized(getattr(node, "metadata_props", ()))
    yield "the overload", getattr(node, "overload", "")
    yield "which outputs are there", tuple(bool(name) for name in node.output)
    bodies = 0
    for attribute in node.attribute:
        held = [*attribute.graphs, attribute.g] if attribute.HasField("g") else attribute.graphs
        if len(held):  # bodies are listed one after the other: which is which is a setting
            yield attribute.name, tuple(_around(b, bodies + i) for i, b in enumerate(held))
            bodies += len(held)
        else:
            yield attribute.name, attribute.SerializeToString()


def _around(body: onnx.GraphProto, place: int) -> Hashable:
    """What stands beside the operators and tensors of a body."""
    types = tuple(i.type.SerializeToString() for i in (*body.input, *body.output))
    return place, body.name, body.doc_string, types, _serialized(body.sparse_initializer)


def _serialized(entries: Iterable[Any]) -> tuple[bytes, ...]:
    return tuple(entry.SerializeToString() for entry in entries)


def _facts(model: onnx.ModelProto, apart: Container[str]) -> dict[str, Hashable]:
    rest = onnx.ModelProto()
    for field, value in model.ListFields():
        if field.name == "graph":
            continue
        if isinstance(value, str | int | float | bytes):
            setattr(rest, field.name, value)
        else:
            getattr(rest, field.name).extend(value)
    noted = [p for p in model.metadata_props if p.key in apart]
    others = [p for p in model.metadata_props if p.key not in apart]
    del rest.metadata_props[:]
    rest.metadata_props.extend(others)
    for opset in rest.opset_import:
        opset.domain = "" if opset.domain == "ai.onnx" else opset.domain
    facts: dict[str, Hashable] = {
        "what stands beside the graph": rest.SerializeToString(deterministic=True),
        _PROVENANCE: _serialized(noted),
        "the name of the graph": model.graph.name,
        "the documentation of the graph": model.graph.doc_string,
    }
    for field in ("quantization_annotation", "sparse_initializer", "metadata_props"):
        entries = getattr(model.graph, field, ())
        facts[f"{field} of the graph"] = _serialized(entries)
    return facts


def _as_stored(tensor: onnx.TensorProto) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims))


def _declared(value: onnx.ValueInfoProto, stored: onnx.TensorProto | None) -> Hashable:
    """How a graph declares what enters or leaves it. Sizes that are those of a stored tensor may
    change with it."""
    kind = value.type.tensor_type
    as_stored = [d.dim_value for d in kind.shape.dim] == list(stored.dims) if stored else False
    if not as_stored:
        return bytes(value.SerializeToString())
    rest = onnx.ValueInfoProto()
    rest.CopyFrom(value)
    rest.type.tensor_type.ClearField("shape")
    return "sizes as stored", bytes(rest.SerializeToString())


def _tensor(tensor: onnx.TensorProto, store: TensorStore) -> Tensor:
    if tensor.data_type == onnx.TensorProto.STRING:
        texts = np.array(list(tensor.string_data), dtype=object)
        return Tensor(tuple(tensor.dims), "string", lambda: texts)
    dtype = np.dtype(helper.tensor_dtype_to_np_dtype(tensor.data_type))
    return Tensor(tuple(tensor.dims), str(dtype), lambda: np.asarray(store.load(tensor)))
