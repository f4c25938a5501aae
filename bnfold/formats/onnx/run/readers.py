"""Who reads the values that a plan changes: a reader that the plan does not know of would be given
another meaning, outside of every region."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from onnx import NodeProto

from bnfold.formats.onnx.graph.model import OnnxModel
from bnfold.formats.onnx.graph.scopes import Scope, label
from bnfold.graph import Value
from bnfold.planning import Plan

# What these ask for at some position, a size or a type, no plan changes.
_NO_ELEMENTS = frozenset({("Shape", 0), ("Size", 0), ("CastLike", 1)})


def unseen_readers(model: OnnxModel, plan: Plan) -> Iterator[str]:
    """A sentence for each node of the file that reads a changed value unknown to the plan, and for
    each changed value that a graph or a body returns."""
    readers: dict[tuple[int, str], list[NodeProto]] = defaultdict(list)
    returned: set[tuple[int, str]] = set()
    for scope in model.scopes:
        returned |= {_place(scope, output.name) for output in scope.graph.output}
        for node in scope.graph.node:
            for position, name in enumerate(node.input):
                if name and (node.op_type, position) not in _NO_ELEMENTS:
                    readers[_place(scope, name)].append(node)
    for value in (value for region in plan.regions for value in region):
        place = _place(model.scopes[value.scope], value.name)
        known = _known(value)
        for node in readers[place]:
            if id(node) not in known:
                yield f"{label(node)} reads '{value.name}', and the plan does not know of it"
        if place in returned and not value.is_output:
            yield f"'{value.name}' is returned, and the plan does not know of it"


def _place(scope: Scope, name: str) -> tuple[int, str]:
    owner = scope.owner(name) or scope
    return owner.index, name


def _known(value: Value) -> set[int]:
    """The nodes of the file that the plan knows as readers of a value."""
    found: set[int] = set()
    for node in (*value.readers, *value.shape_readers):
        native = node.native
        protos = (native.proto, native.bias_add, *native.scope.chain(native.proto))
        found |= {id(proto) for proto in protos if proto is not None}
    return found
