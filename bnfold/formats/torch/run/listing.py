"""An exported program as plain data, for the proof that the written file is the original plus the
plan."""

from __future__ import annotations

import operator
import re
from collections.abc import Hashable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind
from torch.fx import Graph
from torch.fx import Node as Fx

from bnfold.formats.torch.file.tensors import has_numpy_dtype, numpy_dtype, to_numpy
from bnfold.formats.torch.graph.arguments import (
    arguments_of,
    base_name,
    is_aten_call,
    mapped,
    nodes_in,
)
from bnfold.formats.torch.graph.bodies import Bodies
from bnfold.formats.torch.graph.model import TorchModel
from bnfold.graph import Node, Value
from bnfold.proof.listing import Call, Listing, Places, Tensor

_DATA = {InputKind.PARAMETER, InputKind.BUFFER, InputKind.CONSTANT_TENSOR}
# What becomes a parameter, and the factors on it; how a layer slides, where branches were merged.
_GIVEN = frozenset("bias beta alpha self other weight mat2".split())
_SLIDING = frozenset("padding dilation".split())


class _Names:
    """What the nodes of a program are called in its listing."""

    def __init__(self, program: ExportedProgram) -> None:
        self.bodies = Bodies.of(program)
        self.targets = {
            spec.arg.name: spec.target
            for spec in program.graph_signature.input_specs
            if spec.kind in _DATA and spec.target is not None
        }
        self.graphs: list[Graph] = [program.graph, *(body.graph for body in self.bodies.all)]
        self._places = {graph: i for i, graph in enumerate(self.graphs)}

    def of(self, node: Fx) -> str:
        """A parameter by its own name, a value by that of its node and body."""
        origin = self.bodies.origin(node)
        place = self._places.get(origin.graph, 0)
        if not place and origin.name in self.targets and origin.op == "placeholder":
            return f"tensor {self.targets[origin.name]}"
        return origin.name if not place else f"body {place}: {origin.name}"


def listing_of(
    program: ExportedProgram, tensors: Mapping[str, torch.Tensor] | None = None
) -> Listing:
    """Everything that a program holds.

    Args:
        program: a functional program.
        tensors: what its parameters are, by name, where a file of its own holds them.
    """
    names = _Names(program)
    stored: dict[str, Any] = {**program.constants, **program.state_dict, **(tensors or {})}
    used = {f"tensor {t}": stored[t] for t in names.targets.values() if t in stored}
    returned = nodes_in(program.graph.output_node().args)
    inputs = [
        spec.arg.name
        for spec in program.graph_signature.input_specs
        if spec.kind is InputKind.USER_INPUT
    ]
    spec = program.call_spec
    return Listing(
        calls=tuple(call for graph in names.graphs for _, call in _entries(graph, names)),
        tensors={n: _tensor(t) for n, t in used.items() if isinstance(t, torch.Tensor)},
        inputs=tuple(inputs),
        outputs=tuple(names.of(node) for node in returned),
        facts={
            "how it is called": str(spec.in_spec),
            "what it returns": str(spec.out_spec),
            **dict(_facts(program)),
        },
    )


def _facts(program: ExportedProgram) -> Iterator[tuple[str, Hashable]]:
    """What a program demands of its arguments, and what it writes beside returning something."""
    signature = program.graph_signature
    fixed = (s.arg for s in signature.input_specs if s.kind is InputKind.USER_INPUT)
    yield (
        "which arguments are fixed",
        tuple((a.name, repr(a.value)) for a in fixed if hasattr(a, "value")),
    )
    yield "what it writes", tuple((s.kind.name, s.target) for s in signature.output_specs)
    sizes = _Sizes()
    values = {n.name: n.meta.get("val") for n in program.graph.nodes if n.op == "placeholder"}
    shapes = []
    for each in signature.input_specs:
        value = values.get(each.arg.name)
        if each.kind is InputKind.USER_INPUT and isinstance(value, torch.Tensor):
            shapes.append((str(value.dtype), *map(sizes.shown, value.shape)))
    yield "which types and sizes it takes", tuple(shapes)
    yield (
        "which sizes are allowed",
        tuple(
            (sizes.shown(symbol), str(known.lower), str(known.upper))
            for symbol, known in program.range_constraints.items()
            if str(symbol) in sizes.names
        ),
    )


class _Sizes:
    """Symbols under numbers in the order of their appearance: torch names them anew in each file."""

    def __init__(self) -> None:
        self.names: dict[str, str] = {}

    def shown(self, size: Any) -> str:
        return re.sub(r"\b[su]\d+\b", self._number, str(size))

    def _number(self, found: re.Match[str]) -> str:
        return self.names.setdefault(found[0], f"size {len(self.names)}")


def places_of(model: TorchModel) -> Places:
    """Where the nodes of the model's neutral graph stand in its listing."""
    names = _Names(model.program)
    entries = (node for graph in names.graphs for node, _ in _entries(graph, names))
    order = {node: index for index, node in enumerate(entries)}

    def calls_of(node: Node) -> tuple[int, ...]:
        frozen = node.native.frozen
        calls = [*node.native.calls, *(frozen.computing if frozen is not None else ())]
        return tuple(order[call] for call in calls if not _picks_unread(call))

    def name_of(value: Value) -> str:
        return names.of(model.oracle.calls[value])

    return Places(
        calls_of,
        name_of,
        adds=frozenset({"aten.add.Tensor"}),
        copies=frozenset({"aten.clone.default"}),
        pads=frozenset({"aten.constant_pad_nd.default", "aten.pad.default"}),
        adjustable=lambda op, merged: _GIVEN | (_SLIDING if merged else frozenset()),
        becomes=lambda op, other: op.rpartition(".")[0] == other.rpartition(".")[0],
        lowers_to=_lowers_to,
        drops_unread=True,
    )


def _lowers_to(call: Call, role: str, channels: int, rank: int) -> tuple[str, dict[str, Hashable]]:
    """What stands for a norm in a role."""
    if role == "product":
        return "aten.mul.Tensor", {"self": "'(value)'", "other": "'(value)'"}
    if role == "sum":
        return "aten.add.Tensor", {"self": "'(value)'", "other": "'(value)'", "alpha": "1"}
    ones, zeros = repr([1] * (rank - 2)), repr([0] * (rank - 2))
    settings = {
        **dict.fromkeys(("input", "weight", "bias"), "'(value)'"),
        **{"stride": ones, "padding": zeros, "dilation": ones, "groups": repr(channels)},
    }
    return f"aten.conv{rank - 2}d.default", dict(settings)


def _entries(graph: Graph, names: _Names) -> Iterator[tuple[Fx | None, Call]]:
    """The calls of a graph; those of a body between entries for what flows into and out of it."""
    inner = names.bodies.around(graph.output_node()) is not None
    if inner:
        own = (names.of(node) for node in graph.nodes if node.op == "placeholder")
        yield None, Call("(inputs)", "", {}, (), tuple(n for n in own if n.startswith("body")))
    for node in graph.nodes:
        if node.op == "call_function" and not _picks_unread(node):
            holds = bool(names.bodies.held_by(node))
            inputs = tuple(map(names.of, _read(node)))
            if holds:  # parameters are handed on to the bodies, whose calls name them
                inputs = tuple(name for name in inputs if not name.startswith("tensor "))
            settings = {} if holds else dict(_settings(node))
            yield node, Call(_operator(node), node.name, settings, inputs, (names.of(node),))
    if inner:
        returned = nodes_in(graph.output_node().args)
        yield None, Call("(outputs)", "", {}, tuple(map(names.of, returned)), ())


def _picks_unread(node: Fx) -> bool:
    """Whether a node picks one of several results for nobody: ``torch.export`` writes these into a
    file as it likes."""
    return node.target is operator.getitem and not node.users


def _read(node: Fx) -> list[Fx]:
    """The nodes that a call reads, in the order of its schema; names of bodies left out."""
    tree = tuple(arguments_of(node).values()) if is_aten_call(node) else (node.args, node.kwargs)
    return [each for each in nodes_in(tree) if each.op != "get_attr"]


def _operator(node: Fx) -> str:
    return str(node.target) if is_aten_call(node) else base_name(node)


def _settings(node: Fx) -> Iterator[tuple[str, Hashable]]:
    """Arguments by name, with a mark where a value flows in."""
    if is_aten_call(node):
        given = arguments_of(node).items()
    else:
        given = {"args": node.args, "kwargs": node.kwargs}.items()
    for name, value in given:
        yield name, repr(mapped(value, lambda leaf: "(value)" if isinstance(leaf, Fx) else leaf))


def _tensor(tensor: torch.Tensor) -> Tensor:
    shape = tuple(tensor.shape)
    if has_numpy_dtype(tensor.dtype) and tensor.layout is torch.strided:
        return Tensor(shape, str(numpy_dtype(tensor.dtype)), lambda: to_numpy(tensor))
    return Tensor(shape, str(tensor.dtype), lambda: _bytes(tensor))


def _bytes(tensor: torch.Tensor) -> NDArray[Any]:
    """The elements of a type that NumPy lacks."""
    if tensor.is_quantized:
        tensor = tensor.int_repr()
    elif tensor.layout is not torch.strided:
        tensor = tensor.to_dense()
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return np.asarray(flat.view(torch.uint8).numpy())
