"""Names and what they mean: the main graph and the bodies of control flow inside it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property

import onnx


@dataclass(eq=False)
class Scope:
    """One graph or body. Names of outer scopes are visible; sibling bodies may reuse names."""

    index: int
    graph: onnx.GraphProto
    parent: Scope | None = None
    initializers: dict[str, onnx.TensorProto] = field(default_factory=dict)
    producers: dict[str, onnx.NodeProto] = field(default_factory=dict)
    inputs: set[str] = field(default_factory=set)
    bodies: dict[int, list[Scope]] = field(default_factory=dict)
    # Sequences that need not exist: see `sequences.find_cuts`.
    cuts: dict[str, onnx.NodeProto] = field(default_factory=dict)
    # Element types found so far, see `element_types`.
    types: dict[str, int | None] = field(default_factory=dict)

    def chain(self, node: onnx.NodeProto) -> list[onnx.NodeProto]:
        """``node`` behind the SplitToSequence of which it takes one entry; most stand alone."""
        cut = self.cuts.get(node.input[0]) if node.op_type == "SequenceAt" else None
        return [node] if cut is None else [cut, node]

    @cached_property
    def reads(self) -> Counter[str]:
        """How often each name is read here; what a body reads, or the graph returns, counts twice."""
        found: Counter[str] = Counter()
        for position, node in enumerate(self.graph.node):
            found.update(node.input)
            for body in self.bodies.get(position, ()):
                found.update(2 * list(captured_names(body.graph)))
        found.update(2 * [output.name for output in self.graph.output])
        return found

    def owner(self, name: str) -> Scope | None:
        """The innermost scope that defines ``name``."""
        scope: Scope | None = self
        while scope is not None:
            if name in scope.initializers or name in scope.producers or name in scope.inputs:
                return scope
            scope = scope.parent
        return None

    def made_of(self, name: str) -> Iterator[tuple[Scope, str]]:
        """``name`` and all that it is computed from, each with the scope that defines it."""
        seen: set[tuple[int, str]] = set()
        pending = [(self, name)]
        while pending:
            scope, name = pending.pop()
            owner = scope.owner(name)
            if owner is None or (owner.index, name) in seen:
                continue
            seen.add((owner.index, name))
            yield owner, name
            producer = owner.producers.get(name)
            if producer is not None and name not in owner.initializers:
                pending += [(owner, each) for each in producer.input if each]


def scopes_of(graph: onnx.GraphProto) -> list[Scope]:
    """The main scope first, then every body, outer ones before inner ones."""
    found: list[Scope] = []

    def visit(graph: onnx.GraphProto, parent: Scope | None) -> Scope:
        scope = Scope(len(found), graph, parent)
        found.append(scope)
        scope.initializers = {t.name: t for t in graph.initializer}
        scope.inputs = {i.name for i in graph.input}
        scope.inputs |= {t.values.name for t in graph.sparse_initializer}
        for node in graph.node:
            scope.producers.update({name: node for name in node.output if name})
        for position, node in enumerate(graph.node):
            inner = [visit(body, scope) for body in bodies_of(node)]
            if inner:
                scope.bodies[position] = inner
        return scope

    visit(graph, None)
    return found


def label(node: onnx.NodeProto) -> str:
    """How a message names a node, which need not have a name."""
    name = node.name or next(filter(None, node.output), "")
    return f"{node.op_type!r} {name!r}" if name else f"a node {node.op_type!r}"


def bodies_of(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    for attribute in node.attribute:
        if attribute.type == onnx.AttributeProto.GRAPH:
            yield attribute.g
        elif attribute.type == onnx.AttributeProto.GRAPHS:
            yield from attribute.graphs


def captured_names(graph: onnx.GraphProto) -> set[str]:
    """Names that a body reads from outside, those of bodies inside it included."""
    own = {i.name for i in graph.input} | {t.name for t in graph.initializer}
    own |= {name for node in graph.node for name in node.output}
    read = {o.name for o in graph.output}
    for node in graph.node:
        read.update(node.input)
        for body in bodies_of(node):
            read |= captured_names(body)
    return {name for name in read - own if name}


def inner_tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Tensors that are not initializers of the main graph: in attributes, bodies and functions."""
    for function in model.functions:
        yield from _tensors_of(function.node)
    yield from _tensors_of(model.graph.node)


def _tensors_of(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.TensorProto]:
    for node in nodes:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.TENSOR:
                yield attribute.t
            yield from attribute.tensors
        for body in bodies_of(node):
            yield from body.initializer
            yield from _tensors_of(body.node)
