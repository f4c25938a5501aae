"""From an ONNX model to the neutral graph."""

from __future__ import annotations

from dataclasses import dataclass

import onnx

from bnfold.errors import ModelError
from bnfold.formats.onnx.file.tensors import TensorStore
from bnfold.formats.onnx.graph.constants import Constants
from bnfold.formats.onnx.graph.frozen import mark_frozen_norms
from bnfold.formats.onnx.graph.operators import (
    NONLINEAR,
    PRODUCTS,
    SHAPE_READS,
    NodeView,
    Reading,
    reader_of,
)
from bnfold.formats.onnx.graph.oracle import OnnxOracle
from bnfold.formats.onnx.graph.scopes import Scope, bodies_of, captured_names, label, scopes_of
from bnfold.formats.onnx.graph.sequences import find_cuts
from bnfold.formats.patterns import ComputedNorms, join_biases, unused
from bnfold.graph import Graph, Node, Value
from bnfold.kinds import Average, Linear, Monotone, Movement, Norm, Opaque

_COMPUTED_NORMS = ComputedNorms(
    operators=frozenset(
        "LayerNormalization InstanceNormalization GroupNormalization RMSNormalization "
        "SimplifiedLayerNormalization MeanVarianceNormalization LpNormalization LRN".split()
    ),
    products=frozenset(("Div", "Mul")),
    dividers=frozenset("Sqrt Reciprocal Pow ReduceL2 ReduceSumSquare".split()),
)


@dataclass(eq=False)
class Native:
    """What stands behind a neutral node: its proto, and the Add that serves a MatMul as bias."""

    proto: onnx.NodeProto
    scope: Scope
    bias_add: onnx.NodeProto | None = None


def read_graph(
    model: onnx.ModelProto, store: TensorStore, overridable: set[str]
) -> tuple[Graph, list[Scope], Constants]:
    """The neutral graph of ``model``, its scopes and its constants.

    Args:
        model: a model without local functions (they are inlined before).
        store: where its tensors are loaded from.
        overridable: initializers that callers may replace.
    """
    return _Reader(model, store, overridable).read()


class _Reader:
    def __init__(self, model: onnx.ModelProto, store: TensorStore, overridable: set[str]) -> None:
        self.opsets = {o.domain or "": o.version for o in model.opset_import}
        self.scopes = scopes_of(model.graph)
        self.oracle = OnnxOracle(model, self.scopes)
        self.constants = Constants(model, self.scopes, store, overridable)
        self.oracle.constants = self.constants
        self.constants.note_lengths()
        if find_cuts(self.scopes, self.constants):
            self.constants.settle()  # entries of sequences that are cut from constants
        self.read_names = {(s.index, name) for s in self.scopes for name in _names_read(s)}
        self.values: dict[tuple[int, str], Value] = {}
        self.nodes: list[Node] = []
        self.names: set[str] = set()

    def read(self) -> tuple[Graph, list[Scope], Constants]:
        for scope in self.scopes[:1]:
            self._read_scope(scope)
        for scope in self.scopes:
            for output in scope.graph.output:
                self._value(scope, output.name).is_output = True
        for node in self.nodes:
            self._check_channels(node)
        nodes = join_biases(self.nodes, PRODUCTS, self._rank, lambda node: node.native.proto)
        _COMPUTED_NORMS.mark(nodes)
        mark_frozen_norms(nodes)
        return Graph(nodes, self.oracle), self.scopes, self.constants

    def _check_channels(self, node: Node) -> None:
        """A norm has a statistic for each channel of what reaches it.

        Raises:
            ModelError: where it has not.
        """
        if not isinstance(node.kind, Norm) or not node.kind.channels:
            return
        channels, given = node.kind.channels, self._channels(node.inputs[0])
        if given not in (channels, None):
            raise ModelError(
                f"the model is damaged: {label(node.native.proto)} has {channels} channels, "
                f"and {given} reach it"
            )

    def _channels(self, value: Value) -> int | None:
        """The size of axis 1 of a value, None where it is unknown or depends on the input.

        A value of rank 1 is one channel.
        """
        layer = value.producer
        if layer is not None and isinstance(layer.kind, Linear) and layer.kind.out_axis == 1:
            return layer.kind.layout.outputs
        shapes = [self.oracle.shape(value, round) for round in range(self.oracle.rounds)]
        sizes = {None if shape is None else shape[1] if len(shape) > 1 else 1 for shape in shapes}
        return sizes.pop() if len(sizes) == 1 else None

    def _rank(self, value: Value) -> int | None:
        shape = self.oracle.shape_of(self.scopes[value.scope], value.name)
        return None if shape is None else len(shape)

    def _read_scope(self, scope: Scope) -> None:
        for position, proto in enumerate(scope.graph.node):
            self._read_node(scope, proto)
            for body in scope.bodies.get(position, ()):
                self._read_scope(body)

    def _read_node(self, scope: Scope, proto: onnx.NodeProto) -> None:
        outputs = [name for name in proto.output if name]
        if outputs and all(
            name in scope.cuts or self.constants.find(scope, name) for name in outputs
        ):
            return
        reading = self._reading(scope, proto)
        node = Node(
            name=unused(proto.name or (outputs[0] if outputs else proto.op_type), self.names),
            op=proto.op_type,
            kind=reading.kind,
            inputs=[self._value(scope, name) for name in reading.inputs],
            outputs=[self._value(scope, name) for name in outputs],
            scope=scope.index,
            native=Native(proto, scope),
        )
        for value in node.outputs:
            value.producer = node
        native = proto.domain in ("", "ai.onnx")
        shape_reads = SHAPE_READS.get(proto.op_type, ()) if native else ()
        for position, value in enumerate(node.inputs):
            (value.shape_readers if position in shape_reads else value.readers).append(node)
        self._note_settings(scope, proto, node)
        self.nodes.append(node)

    def _note_settings(self, scope: Scope, proto: onnx.NodeProto, node: Node) -> None:
        """Computed values that steer a node (sizes, a padding value) are read as they are."""
        flowing = {value.name for value in node.inputs}
        for name in set(proto.input) - flowing - {""}:
            if scope.owner(name) and not self.constants.find(scope, name):
                value = self._value(scope, name)
                value.readers.append(Node(node.name, node.op, Opaque(), [value], [], node.scope))

    def _reading(self, scope: Scope, proto: onnx.NodeProto) -> Reading:
        native = proto.domain in ("", "ai.onnx")
        reader = reader_of(proto)
        reading = reader(self._view(scope, proto)) if reader else None
        if reading is not None:
            return self._with_fixed_settings(scope, proto, reading)
        names = [name for name in proto.input if name]
        if native and proto.op_type in SHAPE_READS:
            names = list(proto.input)
        elif not native or not any(True for _ in bodies_of(proto)):
            names = [name for name in names if not self.constants.find(scope, name)]
        for body in bodies_of(proto):
            names += sorted(captured_names(body))
        names = [name for name in names if scope.owner(name)]
        nonlinear = native and proto.op_type in NONLINEAR
        return Reading(Opaque(nonlinear), tuple(names))

    def _with_fixed_settings(
        self, scope: Scope, proto: onnx.NodeProto, reading: Reading
    ) -> Reading:
        """A setting that callers may override (indices, sizes) says nothing about the operator."""
        if isinstance(reading.kind, Movement | Average | Monotone):
            for name in set(proto.input) - set(reading.inputs) - {""}:
                constant = self.constants.find(scope, name)
                if constant and constant.obstacle:
                    return Reading(Opaque(obstacle=constant.obstacle), reading.inputs)
        return reading

    def _view(self, scope: Scope, proto: onnx.NodeProto) -> NodeView:
        def is_read(name: str) -> bool:
            return (scope.index, name) in self.read_names

        opset = self.opsets.get("", 1)
        return NodeView(proto, scope, opset, self.constants, self.oracle, is_read)

    def _value(self, scope: Scope, name: str) -> Value:
        owner = scope.owner(name) or scope
        key = owner.index, name
        if key not in self.values:
            constant = self.constants.find(scope, name)
            self.values[key] = Value(name, owner.index, constant=constant)
        return self.values[key]


def _names_read(scope: Scope) -> set[str]:
    names = {o.name for o in scope.graph.output}
    for node in scope.graph.node:
        names.update(node.input)
        for body in bodies_of(node):
            names |= captured_names(body)
    return names
