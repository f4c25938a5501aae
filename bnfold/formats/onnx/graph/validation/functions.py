"""Model-local functions: each defined once, none that calls itself."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from graphlib import CycleError, TopologicalSorter

import onnx

from bnfold.errors import ModelError
from bnfold.formats.onnx.graph.scopes import bodies_of
from bnfold.formats.onnx.graph.validation.names import validate_names
from bnfold.formats.onnx.graph.validation.order import put_in_order

_Key = tuple[str, str, str]


def validate_functions(model: onnx.ModelProto) -> None:
    """The functions of a model, and the order of the nodes in each.

    Raises:
        ModelError: with the function that is wrong.
    """
    calls: dict[_Key, set[_Key]] = {}
    for function in model.functions:
        key = function.domain, function.name, function.overload
        if key in calls:
            raise ModelError(f"function {function.name!r} is defined twice")
        calls[key] = {(n.domain, n.op_type, n.overload) for n in _all_nodes(function.node)}
        validate_names(function)
        put_in_order(function)
    try:
        TopologicalSorter(calls).prepare()
    except CycleError as error:
        raise ModelError(f"function {error.args[1][0][1]!r} calls itself") from None


def _all_nodes(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    for node in nodes:
        yield node
        for body in bodies_of(node):
            yield from _all_nodes(body.node)
