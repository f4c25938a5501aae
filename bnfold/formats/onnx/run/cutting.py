"""Cutting regions out of a model: the nodes between some values, as a model of their own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import onnx
from onnx import helper

from bnfold.formats.onnx.graph.scopes import Scope, bodies_of, captured_names, scopes_of


@dataclass(frozen=True)
class Cut:
    """One region of a model.

    ``inputs``: what enters, by its name in the model, with its name in the piece. ``outputs``: what
    leaves, by its name in the piece, with its name in the model. ``through``: what leaves as it
    enters, by both its names in the piece.
    """

    label: str
    scope: int
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]
    through: Mapping[str, str] = field(default_factory=dict)

    def renamed(self, name: str) -> str:
        """What an inner value is called in the piece."""
        return f"{self.label}/{name}"

    def only(self, output: str) -> Cut:
        """The part that one output needs; ``output`` is its name in the piece."""
        outputs = {k: v for k, v in self.outputs.items() if k == output}
        through = {k: v for k, v in self.through.items() if k == output}
        return replace(self, outputs=outputs, through=through)


def piece_of(
    model: onnx.ModelProto, cuts: Sequence[Cut], dtypes: Mapping[str, np.dtype[Any]]
) -> onnx.ModelProto:
    """The regions side by side in one model; values are named apart, stored tensors are shared.

    Args:
        model: to cut them out of.
        cuts: which regions.
        dtypes: element types of what enters them, by name in the piece.

    Raises:
        LookupError: where a value that is wanted is not in the model.
    """
    scopes = scopes_of(model.graph)
    result = onnx.ModelProto()
    result.CopyFrom(_without_graph(model))
    graph = result.graph
    graph.name = "pieces"
    tensors: set[str] = set()
    for cut in cuts:
        nodes, stored = _between(scopes[cut.scope], cut)
        tensors |= stored
        known = {*cut.inputs, *(name for node in nodes for name in node.output)}
        graph.node.extend(_copied(node, cut, known) for node in nodes)
        for key in cut.inputs.values():
            code = helper.np_dtype_to_tensor_dtype(dtypes[key])
            graph.input.append(helper.make_tensor_value_info(key, code, None))
        made = {k: n if n in stored else cut.renamed(n) for k, n in cut.outputs.items()}
        for key, source in {**made, **cut.through}.items():
            graph.node.append(helper.make_node("Identity", [source], [key]))
            graph.output.append(helper.make_empty_tensor_value_info(key))
    _add_tensors(graph, scopes, cuts, tensors)
    return result


def _without_graph(model: onnx.ModelProto) -> onnx.ModelProto:
    result = onnx.ModelProto()
    result.ir_version = model.ir_version
    result.opset_import.extend(model.opset_import)
    result.functions.extend(model.functions)
    return result


def _between(scope: Scope, cut: Cut) -> tuple[list[onnx.NodeProto], set[str]]:
    """The nodes of a region in order, and the names of stored tensors that they read."""
    needed: set[int] = set()
    stored: set[str] = set()
    seen: set[str] = set()
    # What leaves a region may enter it again elsewhere: then both its maker and its readers are in.
    pending = [(name, True) for name in cut.outputs.values()]
    while pending:
        name, leaves = pending.pop()
        if not name or name in seen or (name in cut.inputs and not leaves):
            continue
        seen.add(name)
        node = scope.producers.get(name)
        if node is None:
            stored.add(name)
        elif id(node) not in needed:
            needed.add(id(node))
            read = [*node.input, *(n for body in bodies_of(node) for n in captured_names(body))]
            pending += [(each, False) for each in read]
    return [node for node in scope.graph.node if id(node) in needed], stored


def _copied(node: onnx.NodeProto, cut: Cut, known: set[str]) -> onnx.NodeProto:
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    copy.name = cut.renamed(node.name) if node.name else ""
    for position, name in enumerate(node.input):
        if name in cut.inputs:
            copy.input[position] = cut.inputs[name]
        elif name in known:
            copy.input[position] = cut.renamed(name)
    for position, name in enumerate(node.output):
        copy.output[position] = cut.renamed(name) if name else name
    return copy


def _add_tensors(
    graph: onnx.GraphProto, scopes: Sequence[Scope], cuts: Sequence[Cut], names: set[str]
) -> None:
    """The stored tensors, and the inputs of the model that stand for some, that the regions read."""
    found: set[str] = set()
    for scope in _visible(scopes, cuts):
        for tensor in scope.graph.initializer:
            if tensor.name in names - found:
                graph.initializer.append(tensor)
                found.add(tensor.name)
        for value in scope.graph.input if scope.parent is None else ():
            if value.name in names - found:
                graph.input.append(value)
                found.add(value.name)
    if names - found:
        raise LookupError(f"{min(names - found)} is not in the model")


def _visible(scopes: Sequence[Scope], cuts: Sequence[Cut]) -> Iterator[Scope]:
    """The scopes of the regions and those around them, inner ones first."""
    for index in {cut.scope for cut in cuts}:
        scope: Scope | None = scopes[index]
        while scope is not None:
            yield scope
            scope = scope.parent


def cut(
    model: onnx.ModelProto, inputs: Mapping[str, np.dtype[Any]], outputs: Iterable[str]
) -> onnx.ModelProto:
    """The part of a model between inner values: ``inputs`` (name to type) and ``outputs``."""
    graph = model.graph
    producers = {name: node for node in graph.node for name in node.output}
    outputs = list(dict.fromkeys(outputs))
    needed, kept, pending = set(inputs), set(), list(outputs)
    while pending:
        name = pending.pop()
        if name in needed:
            continue
        needed.add(name)
        node = producers.get(name)
        if node is not None and id(node) not in kept:
            kept.add(id(node))
            pending += node.input
            for attribute in node.attribute:
                for body in [attribute.g, *attribute.graphs]:
                    pending += captured_names(body)
    result = onnx.ModelProto()
    result.CopyFrom(model)
    result.ClearField("graph")
    piece = result.graph
    piece.name = graph.name or "piece"
    piece.node.extend(node for node in graph.node if id(node) in kept)
    piece.initializer.extend(t for t in graph.initializer if t.name in needed - set(inputs))
    piece.input.extend(i for i in graph.input if i.name in needed and i.name not in inputs)
    for name, dtype in inputs.items():
        code = helper.np_dtype_to_tensor_dtype(dtype)
        piece.input.append(helper.make_tensor_value_info(name, code, None))
    piece.output.extend(helper.make_empty_tensor_value_info(name) for name in outputs)
    return result
