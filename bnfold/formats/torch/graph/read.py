"""From an exported program to the neutral graph."""

from __future__ import annotations

import operator
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch.export import ExportedProgram
from torch.fx import Graph as CallGraph
from torch.fx import Node as Call

from bnfold.formats.patterns import ComputedNorms, join_biases
from bnfold.formats.torch.graph.arguments import (
    arguments_of,
    base_name,
    is_aten,
    is_aten_call,
    is_tensor,
    nodes_in,
    value_of,
)
from bnfold.formats.torch.graph.constants import Constants
from bnfold.formats.torch.graph.frozen import Frozen, join_frozen_norms
from bnfold.formats.torch.graph.liveness import live_nodes
from bnfold.formats.torch.graph.names import Names
from bnfold.formats.torch.graph.operators import (
    NONLINEAR,
    PRODUCTS,
    SHAPE_READS,
    CallView,
    Reading,
    reader_of,
)
from bnfold.formats.torch.graph.operators.batch_norm import READERS as BATCH_NORMS
from bnfold.formats.torch.graph.oracle import TorchOracle
from bnfold.formats.torch.graph.symbols import Symbols
from bnfold.graph import Graph, Node, Value
from bnfold.kinds import Linear, Norm, Opaque

_COMPUTED_NORMS = ComputedNorms(
    operators=frozenset(
        "layer_norm native_layer_norm group_norm native_group_norm instance_norm rms_norm "
        "fused_rms_norm local_response_norm".split()
    ),
    products=frozenset(("div", "mul")),
    dividers=frozenset("sqrt rsqrt reciprocal pow norm linalg_vector_norm var std".split()),
)


@dataclass(eq=False)
class Native:
    """What stands behind a neutral node: its call, the nodes of its inputs in their order, the call
    that adds a bias behind a matrix product, and what a frozen norm is made of.

    ``call`` is the last one, whose result is that of the node.
    """

    call: Call
    flows: tuple[Call, ...]
    bias_add: Call | None = None
    frozen: Frozen | None = None

    def parameter(self, name: str) -> Call | None:
        """The node behind a parameter or statistic of a norm."""
        if self.frozen is not None:
            return self.frozen.buffers.get(name)
        found = arguments_of(self.call).get(name)
        return found if isinstance(found, Call) else None

    @property
    def calls(self) -> list[Call]:
        """All calls that read parameters."""
        scaling = None if self.frozen is None else self.frozen.scaling
        return [call for call in (self.call, self.bias_add, scaling) if call is not None]


def read_graph(program: ExportedProgram) -> tuple[Graph, Constants, TorchOracle]:
    """The neutral graph of a functional ``program``, its constants and its oracle."""
    return _Reader(program).read()


class _Reader:
    def __init__(self, program: ExportedProgram) -> None:
        self.program = program
        self.constants = Constants(program)
        self.oracle = TorchOracle(Symbols(program), self.constants)
        self.values: dict[tuple[Call, int], Value] = {}
        self.nodes: list[Node] = []
        graphs = [program.graph, *(body.graph for body in self.constants.bodies.all)]
        self.scopes = {graph: scope for scope, graph in enumerate(graphs)}
        self.live = {node for graph in graphs for node in live_nodes(graph)}
        self.holders: dict[Call, Node] = {}

    def read(self) -> tuple[Graph, Constants, TorchOracle]:
        calls = list(self._calls(self.program.graph))
        readings = {call: self._reading(call) for call in calls}
        main = {c for c, r in readings.items() if isinstance(r.kind, Norm | Linear)}
        names = Names(self.program, main)
        # Norms and layers first: a name without an addition belongs to them.
        named = {c: names.of(c, self._parameter(c, readings[c])) for c in calls if c in main}
        for call in calls:
            self._add(call, readings[call], named.get(call) or names.of(call))
        for graph in self.scopes:
            for output in nodes_in(graph.output_node().args):
                if is_tensor(output):
                    self._value(output).is_output = True
        nodes = join_biases(self.nodes, PRODUCTS, self._rank, lambda node: node.native.call)
        nodes = join_frozen_norms(nodes, self.constants)
        _COMPUTED_NORMS.mark(nodes)
        return Graph(nodes, self.oracle), self.constants, self.oracle

    def _rank(self, value: Value) -> int:
        known: torch.Tensor = value_of(self.oracle.calls[value])
        return known.ndim

    def _calls(self, graph: CallGraph) -> Iterator[Call]:
        """The calls of a graph, those in a body behind the one that holds it."""
        for call in graph.nodes:
            if self._is_computed(call):
                yield call
            for body in self.constants.bodies.held_by(call):
                yield from self._calls(body.graph)

    def _is_computed(self, call: Call) -> bool:
        if call.op != "call_function" or call.target is operator.getitem:
            return False
        tensors = any(is_tensor(node) for node in nodes_in((call.args, call.kwargs)))
        return tensors and not self.constants.is_known(call)

    def _reading(self, call: Call) -> Reading:
        view = CallView(call, self.constants)
        # What nobody reads is read for nobody: it keeps its values, and is not folded itself.
        reader = reader_of(view) if call in self.live else None
        # Operators differ in what an overload means; one that lacks what its reader needs is unknown.
        try:
            reading = reader(view) if reader else None
        except (AssertionError, KeyError, TypeError):
            reading = None
        flows = self._flows(call)
        others = [node for node in flows if reading is None or node not in reading.inputs]
        if reading is not None and not others:
            return reading
        if reading is not None and isinstance(reading.kind, Norm):  # computed statistics
            return Reading(reading.kind, (*reading.inputs, *others))
        return Reading(Opaque(is_aten(call) and view.op in NONLINEAR), tuple(flows))

    def _flows(self, call: Call) -> list[Call]:
        """All nodes whose elements a call reads, those left out that are known."""
        shape_only = self._shape_only(call)
        return [
            node
            for node in nodes_in((call.args, call.kwargs))
            if self._is_flow(node) and node not in shape_only
        ]

    def _is_flow(self, node: Call) -> bool:
        value = value_of(node)
        several = isinstance(value, tuple | list)
        return (several or is_tensor(node)) and not self.constants.is_known(node)

    def _shape_only(self, call: Call) -> list[Call]:
        """Nodes of which the call reads shape or type alone."""
        if not is_aten_call(call):
            return []
        bound = arguments_of(call)
        names = SHAPE_READS.get(base_name(call), ())
        read = [n for name, v in bound.items() if name not in names for n in nodes_in(v)]
        found = [n for name in names for n in nodes_in(bound.get(name))]
        return [n for n in found if n not in read]

    def _parameter(self, call: Call, reading: Reading) -> str | None:
        if isinstance(reading.kind, Linear):
            return reading.kind.weight.name
        mean = CallView(call, self.constants).tensor("running_mean")
        return None if mean is None else self.constants.parameter(mean)

    def _add(self, call: Call, reading: Reading, name: str) -> None:
        flows = tuple(f for flow in reading.inputs for f in self._parts(flow))
        node = Node(
            name=name,
            op=base_name(call).strip("_") if is_aten_call(call) else base_name(call),
            kind=reading.kind,
            inputs=[self._value(flow, index) for flow, index in flows],
            outputs=[self._value(call, i) for i in range(_result_count(call))],
            scope=self.scopes[call.graph],
            native=Native(call, tuple(flow for flow, _ in flows)),
        )
        if base_name(call) in BATCH_NORMS:
            node.op = "batch_norm"
        if self.constants.bodies.held_by(call):
            self.holders[call] = node
        for value in node.outputs:
            value.producer = node
        for value in node.inputs:
            value.readers.append(node)
        for shape_read in self._shape_only(call):
            self._value(shape_read).shape_readers.append(node)
        self.nodes.append(node)

    def _parts(self, flow: Call) -> list[tuple[Call, int]]:
        """The single values in what flows: all of them where a call takes a whole tuple."""
        count = _result_count(flow)
        whole = isinstance(value_of(flow), tuple | list)
        return [(flow, i) for i in range(count)] if whole else [(flow, 0)]

    def _value(self, call: Call, index: int = 0) -> Value:
        shown = call
        if call.target is operator.getitem and isinstance(call.args[1], int):
            source, picked = call.args[:2]
            assert isinstance(source, Call) and isinstance(picked, int)
            if not self.constants.is_known(source):
                call, index = source, picked
        key = call, index
        if key not in self.values:
            constant = self.constants.find(call)
            name = shown.name if shown is not call else _output_name(call, index)
            value = Value(name, self.scopes[call.graph], constant=constant)
            body = self.constants.bodies.around(call)
            if body is not None and call.op == "placeholder" and constant is None:
                value.producer = self.holders.get(body.holder)
            self.values[key] = value
            self.oracle.calls[value] = shown if shown is not call else _picker(call, index)
        return self.values[key]


def _result_count(call: Call) -> int:
    value = value_of(call)
    if isinstance(value, tuple | list):
        return len(value)
    return 1 if isinstance(value, torch.Tensor) else 0


def _picker(call: Call, index: int) -> Call:
    """The node that picks one of several results, or the call itself."""
    if not isinstance(value_of(call), tuple | list):
        return call
    for user in call.users:
        if user.target is operator.getitem and user.args[1] == index:
            return user
    return call


def _output_name(call: Call, index: int) -> str:
    picker = _picker(call, index)
    several = picker is call and isinstance(value_of(call), tuple | list)
    return f"{call.name}.{index}" if several else str(picker.name)
