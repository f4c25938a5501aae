"""Where the gauges of a network may vary: the values that a norm can reach, and who reads them.

Only what a norm can reach is looked at: from its two sides through nodes that pass a gauge on, up to
layers and norms, which absorb any gauge, and to operators that allow none.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import prod

from bnfold.algebra.affine import AffineMap
from bnfold.algebra.rounding import is_float
from bnfold.graph import Graph, Node, Value
from bnfold.kinds import Affine, Average, Homogeneous, Mixture, Monotone, Movement, Product, Sum
from bnfold.planning.gauges.laws import (
    FIXED,
    Cells,
    Field,
    Laws,
)
from bnfold.planning.groups import Groups
from bnfold.planning.ledger import Ledger
from bnfold.planning.reasons import Reason, Refused

_MOST_CELLS = 1 << 17
PASSING = (Movement, Average, Mixture, Monotone, Homogeneous, Sum, Product, Affine)


@dataclass(eq=False)
class Network:
    """The laws around some norms. ``read`` and ``written`` are the cells that a node absorbs.

    ``unsure`` are nodes that might allow more than their laws say: unknown operators, those that could
    not be tried, and products, of which one factor has been chosen to keep its gauge: ``turned`` chooses
    the other one, where there is a choice. ``unsigned`` are magnitudes and leaks, which know a way with
    the other sign.
    """

    graph: Graph
    ledger: Ledger
    norms: list[Node]
    turned: bool = False
    has_choice: bool = False
    laws: Laws = field(default_factory=Laws)
    fields: dict[Value, Field] = field(default_factory=dict)
    constants: dict[tuple[Node, Value], Field] = field(default_factory=dict)
    read: dict[Node, Cells] = field(default_factory=dict)
    written: dict[Node, Cells] = field(default_factory=dict)
    nodes: list[Node] = field(default_factory=list)
    unsure: set[Node] = field(default_factory=set)
    unsigned: set[Node] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.origins = _origins(self.graph, self.ledger)
        self.aliases: dict[Value, list[Value]] = {}
        for value, origin in self.origins.items():
            self.aliases.setdefault(origin, []).append(value)
        self.own = set(self.norms)
        self._standing = {
            node
            for node in self.graph.nodes
            if not self.ledger.is_gone(node) and not self.ledger.is_bypassed(node)
        }
        self.reached = self._reach()
        self.nodes = [node for node in self.graph.nodes if self._is_near(node)]

    def near(self, others: set[Node]) -> set[Node]:
        """The norms from whose values gauges reach one of some nodes."""
        groups = Groups()
        for node in self.nodes:
            if isinstance(node.kind, PASSING):
                groups.join([self.origin(v) for v in (*node.inputs, *node.outputs)])
        heads = {groups.head(self.origin(v)) for n in others for v in (*n.inputs, *n.outputs)}
        return {
            node
            for node in self.norms
            if any(groups.head(self.origin(v)) in heads for v in (*node.inputs, *node.outputs))
        }

    # Where to look ----------------------------------------------------------------------------

    def origin(self, value: Value) -> Value:
        return self.origins.get(value, value)

    def _all(self, origin: Value) -> list[Value]:
        return [origin, *self.aliases.get(origin, ())]

    def readers(self, origin: Value) -> dict[Node, None]:
        """Who reads a value, under whichever name, by value or by shape."""
        found: dict[Node, None] = {}
        for value in self._all(origin):
            found |= dict.fromkeys((*value.readers, *value.shape_readers))
        return found

    def value_readers(self, value: Value) -> list[Node]:
        """Who reads the elements of a value, and still stands."""
        origin = self.origin(value)
        found = (r for v in self._all(origin) for r in v.readers)
        return [r for r in dict.fromkeys(found) if not self.ledger.is_bypassed(r)]

    def _reach(self) -> dict[Value, None]:
        """The values that share a gauge, or a law, with one side of a norm."""
        reached: dict[Value, None] = {}
        pending = [self.origin(v) for n in self.norms for v in (*n.inputs, *n.outputs)]
        while pending:
            value = pending.pop()
            if value in reached or value.constant is not None:
                continue
            reached[value] = None
            near = list(self.readers(value))
            if value.producer is not None:
                near.append(value.producer)
            for node in near:
                if isinstance(node.kind, PASSING) and node in self._standing:
                    pending += [self.origin(v) for v in (*node.inputs, *node.outputs)]
        return reached

    def _is_near(self, node: Node) -> bool:
        values = (*node.inputs, *node.outputs)
        return node in self._standing and any(self.origin(v) in self.reached for v in values)

    def fix_what_others_read(self, origin: Value) -> None:
        """Graph outputs, values that bodies read, and those that steer an operator stay as they are."""
        found = self.field(origin)
        if found.is_fixed:
            return
        for value in self._all(origin):
            foreign = any(r.scope != origin.scope or not r.outputs for r in value.readers)
            if value.is_output or foreign:
                self.laws.fix(found.cells, origin.producer or next(iter(self.readers(origin))))

    def field(self, value: Value) -> Field:
        return self.fields.get(self.origin(value), FIXED)

    def opaque(self, node: Node) -> None:
        """No gauge but the identity, on either side."""
        self.read.pop(node, None)
        self.written.pop(node, None)
        for value in node.outputs:
            if value in self.fields:
                self.laws.fix(self.fields[value].cells, node)
        for value in node.inputs:
            if node in value.readers:
                self.laws.fix(self.field(value).cells, node)

    def rank(self, value: Value) -> int:
        rank = self.graph.rank(value)
        if rank is None:
            raise Refused(Reason.UNKNOWN_SHAPE, value.name)
        return rank

    def is_ragged(self, node: Node) -> bool:
        """Whether the inputs may have different ranks. Unknown ranks must not matter."""
        ranks = {self.graph.rank(v) for v in node.inputs if v.constant is None}
        known = [rank for rank in ranks if rank is not None]
        grown = [len(v.constant.shape) for v in node.inputs if v.constant is not None]
        return len(ranks) > 1 or len(known) < len(ranks) or max(grown, default=0) > max(known)

    def lifted(self, value: Value, rank: int | None) -> Field:
        """A field in a value of higher rank, as broadcasting puts it there."""
        found = self.field(value)
        if rank is None or not found.axes:
            return found
        grown = rank - self.rank(value)
        return Field(tuple(axis + grown for axis in found.axes), found.cells)


def _origins(graph: Graph, ledger: Ledger) -> dict[Value, Value]:
    """What the outputs of bypassed nodes are by now."""
    found: dict[Value, Value] = {}
    for node in graph.nodes:
        source = ledger.source(node)
        if source is not None:
            found[node.outputs[0]] = found.get(source, source)
    return found


def is_changeable(value: Value) -> bool:
    constant = value.constant
    return constant is not None and constant.obstacle is None and is_float(constant.dtype)


def union(
    fields: list[Field], own: AffineMap | None = None
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The axes along which some values of one rank vary, and how large these are.

    Raises:
        Refused: where that would be too much to look at.
    """
    sizes: dict[int, int] = {}
    for found in fields:
        for axis, size in zip(found.axes, found.cells.shape, strict=True):
            if sizes.setdefault(axis, size) != size:
                raise Refused(Reason.AXIS_MISMATCH)
    for axis in own.varies_along if own else ():
        assert own is not None
        if sizes.setdefault(axis, own.shape[axis]) != own.shape[axis]:
            raise Refused(Reason.AXIS_MISMATCH)
    axes = tuple(sorted(sizes))
    if prod(sizes.values()) > _MOST_CELLS:
        raise Refused(Reason.MIXED_CHANNELS)
    return axes, tuple(sizes[axis] for axis in axes)
