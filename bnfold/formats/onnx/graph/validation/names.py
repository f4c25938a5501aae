"""Names: legible, defined once, and defined at all."""

from __future__ import annotations

from collections.abc import Iterable, Set

import onnx

from bnfold.errors import ModelError
from bnfold.formats.onnx.graph.scopes import bodies_of, label


def validate_names(
    graph: onnx.GraphProto | onnx.FunctionProto, outer: Set[str] = frozenset()
) -> None:
    """The names of values in a graph or function, and in the bodies inside it.

    Args:
        graph: what is looked at.
        outer: names of the graphs around it.

    Raises:
        ModelError: with the name that is wrong.
    """
    own = _inputs(graph)
    for node in graph.node:
        _check_text(node)
        for name in filter(None, node.output):
            if name in own:
                raise ModelError(f"{label(node)} gives {name!r}, which is defined already")
            own.add(name)
    known = own | outer
    for node in graph.node:
        for name in filter(None, node.input):
            if name not in known:
                raise ModelError(f"{label(node)} reads {name!r}, which nothing defines")
        for body in bodies_of(node):
            validate_names(body, known)
    for name in _outputs(graph):
        if name not in known:
            raise ModelError(f"output {name!r} is defined by nothing")


def _inputs(graph: onnx.GraphProto | onnx.FunctionProto) -> set[str]:
    """Inputs and initializers; a name may be both."""
    if isinstance(graph, onnx.FunctionProto):
        return _each_once("input", graph.input)
    stored = [t.name for t in graph.initializer]
    stored += [t.values.name for t in graph.sparse_initializer]
    inputs = _each_once("input", (i.name for i in graph.input))
    return inputs | _each_once("initializer", stored)


def _outputs(graph: onnx.GraphProto | onnx.FunctionProto) -> list[str]:
    if isinstance(graph, onnx.FunctionProto):
        return list(graph.output)
    return [output.name for output in graph.output]


def _each_once(what: str, names: Iterable[str]) -> set[str]:
    found: set[str] = set()
    for name in names:
        _check_legible(what, name)
        if name and name in found:
            raise ModelError(f"{what} {name!r} is defined twice")
        found.add(name)
    return found


def _check_text(node: onnx.NodeProto) -> None:
    for text in (node.name, node.op_type, node.domain, *node.input, *node.output):
        _check_legible("a name in a node", text)
    for attribute in node.attribute:
        _check_legible("the name of an attribute", attribute.name)


def _check_legible(what: str, text: str | bytes) -> None:
    """Protobuf hands over what is no UTF-8 as bytes."""
    if isinstance(text, bytes):
        raise ModelError(f"{what}, {text!r}, is no UTF-8 text")
