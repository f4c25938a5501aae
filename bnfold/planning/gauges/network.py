"""The laws of a network: what every kind of node demands of the gauges around it.

Only what a norm can reach is looked at: from its two sides through nodes that pass a gauge on, up to
layers and norms, which absorb any gauge, and to operators that allow none.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from math import prod

import numpy as np

from bnfold.algebra.affine import AffineMap, Array
from bnfold.algebra.rounding import is_float
from bnfold.graph import (
    Affine,
    Average,
    Graph,
    Homogeneous,
    Linear,
    Monotone,
    Movement,
    Node,
    Norm,
    Product,
    Sum,
    Value,
)
from bnfold.planning.gauges.laws import (
    FIXED,
    IDENTITY,
    Candidate,
    Cells,
    Field,
    Laws,
    scale_laws,
    shift_laws,
)
from bnfold.planning.gauges.movements import moved, touched, writes_constants
from bnfold.planning.kinds import affine, average, norm
from bnfold.planning.ledger import Ledger, check_changeable
from bnfold.planning.reasons import Reason, Refused

_MOST_CELLS = 1 << 17
_PASSING = (Movement, Average, Monotone, Homogeneous, Sum, Product, Affine)


@dataclass(eq=False)
class Network:
    """The laws around some norms. ``read`` and ``written`` are the cells that a node absorbs."""

    graph: Graph
    ledger: Ledger
    norms: list[Node]
    laws: Laws = field(default_factory=Laws)
    fields: dict[Value, Field] = field(default_factory=dict)
    constants: dict[tuple[Node, Value], Field] = field(default_factory=dict)
    read: dict[Node, Cells] = field(default_factory=dict)
    written: dict[Node, Cells] = field(default_factory=dict)
    nodes: list[Node] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.origins = _origins(self.graph, self.ledger)
        self.aliases: dict[Value, list[Value]] = {}
        for value, origin in self.origins.items():
            self.aliases.setdefault(origin, []).append(value)
        self._own = set(self.norms)
        self._standing = {
            node
            for node in self.graph.nodes
            if not self.ledger.is_gone(node) and not self.ledger.is_bypassed(node)
        }
        self._reached = self._reach()
        self.nodes = [node for node in self.graph.nodes if self._is_near(node)]
        for node in self.nodes:
            self._state(node)
        for value in self._reached:
            self._fix_what_others_read(value)

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
                if isinstance(node.kind, _PASSING) and node in self._standing:
                    pending += [self.origin(v) for v in (*node.inputs, *node.outputs)]
        return reached

    def _is_near(self, node: Node) -> bool:
        values = (*node.inputs, *node.outputs)
        return node in self._standing and any(self.origin(v) in self._reached for v in values)

    def _fix_what_others_read(self, origin: Value) -> None:
        """Graph outputs, values that bodies read, and those that steer an operator stay as they are."""
        found = self.field(origin)
        if found.is_fixed:
            return
        for value in self._all(origin):
            foreign = any(r.scope != origin.scope or not r.outputs for r in value.readers)
            if value.is_output or foreign:
                self.laws.fix(found.cells, origin.producer or next(iter(self.readers(origin))))

    # What every kind demands --------------------------------------------------------------------

    def field(self, value: Value) -> Field:
        return self.fields.get(self.origin(value), FIXED)

    def _state(self, node: Node) -> None:
        """Enters the laws of a node, and the fields of its outputs."""
        kind = node.kind
        foreign = any(self.origin(v).scope != node.scope for v in node.inputs)
        state = _STATES.get(type(kind))
        try:
            if state is None or foreign:
                self._opaque(node)
            else:
                state(self, node)
        except Refused:
            self._opaque(node)

    def _opaque(self, node: Node) -> None:
        self.read.pop(node, None)
        self.written.pop(node, None)
        for value in node.outputs:
            if value in self.fields:
                self.laws.fix(self.fields[value].cells, node)
        for value in node.inputs:
            if node in value.readers:
                self.laws.fix(self.field(value).cells, node)

    def _linear(self, node: Node) -> None:
        kind = self.ledger.kind(node)
        check_changeable(node, kind)
        source, target = node.inputs[0], node.outputs[0]
        ranks = self._ranks(source, target, kind)
        cells = self._along(self.field(source), kind.in_axis % ranks[0], kind.layout.inputs, node)
        if not kind.every_tap_everywhere or kind.layout.is_stack:
            self.laws.no_shift(cells, node)
        self.read[node] = cells
        self._writes(node, kind.out_axis % ranks[1], kind.layout.outputs)

    def _ranks(self, source: Value, target: Value, kind: Linear) -> tuple[int, int]:
        if kind.in_axis >= 0 and kind.out_axis >= 0:
            return kind.in_axis + 1, kind.out_axis + 1
        return self._rank(source), self._rank(target)

    def _rank(self, value: Value) -> int:
        rank = self.graph.rank(value)
        if rank is None:
            raise Refused(Reason.UNKNOWN_SHAPE, value.name)
        return rank

    def _writes(self, node: Node, axis: int, size: int) -> None:
        """The output of a node that can be given any gauge along ``axis``."""
        value = node.outputs[0]
        if value not in self._reached:
            self.written[node] = np.full(size, IDENTITY)
            return
        self.fields[value] = found = self.laws.new_field((axis,), (size,))
        self.written[node] = np.broadcast_to(found.cells, (size,))

    def _norm(self, node: Node) -> None:
        kind = node.kind
        assert isinstance(kind, Norm)
        norm.check_source(node)
        axis, size = kind.axis, kind.channels
        self.read[node] = cells = self._along(self.field(node.inputs[0]), axis, size, node)
        self._writes(node, axis, size)
        scale, shift = norm.vectors(node, self.ledger)
        if node in self._own:
            live, after = scale != 0, self.written[node]
            scales = scale_laws(after[live], cells[live], scale[live], node)
            terms = [(after[live], 1.0), (cells[live], -scale[live])]
            shifts = shift_laws(terms, shift[live], node) if live.any() else []
            self.laws.candidates.append(Candidate(node, (*scales, *shifts), after[~live]))

    def _affine(self, node: Node) -> None:
        kind = node.kind
        assert isinstance(kind, Affine)
        if kind.constant is not None:
            affine.check_fixed(kind.constant)
        source = self.field(node.inputs[0])
        rank = self._rank(node.inputs[0])
        own = affine.current_map(node, rank, self.ledger)
        affine.refuse_growth(node, own, self.graph)
        axes, sizes = _union([source], own)
        before = source.over(axes, sizes)
        after = self.laws.new_field(axes, sizes)
        cells = after.over(axes, sizes)
        scales = kind.form in ("x*c", "x/c")
        factor = own.scale.reshape([own.scale.shape[axis] for axis in axes]) if scales else None
        if not own.is_finite:
            raise Refused(Reason.OVERFLOW, node.label)
        if factor is None:
            self.laws.laws += scale_laws(cells, before, 1.0, node)
        if kind.form == "-x":
            self.laws.laws += shift_laws([(cells, 1.0), (before, 1.0)], 0.0, node)
        elif factor is not None:
            factor = np.broadcast_to(factor, sizes)
            self.laws.laws += shift_laws([(cells, 1.0), (before, -factor)], 0.0, node)
        self.fields[node.outputs[0]] = after

    def _movement(self, node: Node) -> None:
        kind = node.kind
        assert isinstance(kind, Movement)
        if kind.cast is not None and kind.cast[0] != kind.cast[1]:
            raise Refused(Reason.NARROW_TYPE, node.label)
        if kind.touched == ():
            self.fields[node.outputs[0]] = self.field(node.inputs[0])
            return
        fields = self._input_fields(node)
        if all(f.is_fixed for f in fields):
            return
        whole = {axis for f in fields for axis in f.axes}
        axes = touched(node, self._rank(node.inputs[0])) if whole else set()
        if kind.fill is not None and kind.fill != 0:
            raise Refused(Reason.SHIFT_BLOCKED, node.label)
        if axes is not None and not axes & whole:
            self._carried(node, fields)
        else:
            self._moved(node, fields)
        if kind.fill is not None:
            for f in fields:
                self.laws.no_shift(f.cells, node)

    def _carried(self, node: Node, fields: list[Field]) -> None:
        """Along other axes than those on which the gauges vary."""
        zeros, others = writes_constants(node, self.graph)
        if others:
            raise Refused(Reason.SHIFT_BLOCKED, node.label)
        axes, sizes = _union(fields)
        first = fields[0].over(axes, sizes)
        for other in fields[1:]:
            self.laws.same(other.over(axes, sizes), first, node)
        if zeros:
            self.laws.no_shift(first, node)
        for value in node.outputs:
            self.fields[value] = Field(axes, first)

    def _moved(self, node: Node, fields: list[Field]) -> None:
        for value, found in zip(node.outputs, moved(node, fields, self.graph), strict=False):
            self.laws.no_shift(found.beside_zeros, node)
            self.laws.fix(found.beside_others, node)
            cells = found.cells.copy()
            if (zeros := cells < 0).any():
                cells[zeros] = self.laws.new_field((0,), (int(zeros.sum()),)).cells
                self.laws.no_shift(cells[zeros], node)
            self.fields[value] = Field(found.axes, cells)

    def _input_fields(self, node: Node) -> list[Field]:
        """The fields of a movement's inputs; a constant among them can be given any gauge."""
        fields = [self.field(value) for value in node.inputs]
        vary = {axis for f in fields for axis in f.axes}
        for i, value in enumerate(node.inputs):
            if value.constant is not None and _is_changeable(value):
                shape = value.constant.shape
                axes = touched(node, len(shape))
                wanted = tuple(sorted(vary | (axes or set()))) if axes is not None else ()
                if wanted and wanted[-1] >= len(shape):  # it does not line up with the others
                    raise Refused(Reason.AXIS_MISMATCH, node.label)
                fields[i] = self.laws.new_field(wanted, tuple(shape[axis] for axis in wanted))
                self.constants[node, value] = fields[i]
        return fields

    def _average(self, node: Node) -> None:
        assert isinstance(node.kind, Average)
        found = self._reduced(node, node.kind.axes)
        if not found.is_fixed and not average.passes_shift(node, self.graph):
            self.laws.no_shift(found.cells, node)

    def _monotone(self, node: Node) -> None:
        assert isinstance(node.kind, Monotone)
        self.laws.positive(self._reduced(node, node.kind.axes).cells, node)

    def _homogeneous(self, node: Node) -> None:
        assert isinstance(node.kind, Homogeneous)
        if node.kind.axes is None:
            found = self.fields[node.outputs[0]] = self.field(node.inputs[0])
        else:
            found = self._reduced(node, node.kind.axes)
        self.laws.positive(found.cells, node)
        self.laws.no_shift(found.cells, node)

    def _reduced(self, node: Node, axes: tuple[int | None, ...]) -> Field:
        """The output of an operator that puts the elements along some axes into one."""
        source = self.field(node.inputs[0])
        kept = tuple(axis for axis in source.axes if axis in axes)
        cells = source.cells
        for i in reversed(range(len(source.axes))):
            if source.axes[i] not in axes:
                first: Cells = np.take(cells, 0, axis=i)
                self.laws.same(cells, np.broadcast_to(np.expand_dims(first, i), cells.shape), node)
                cells = first
        order = sorted(range(len(kept)), key=lambda i: axes.index(kept[i]))
        places = tuple(axes.index(kept[i]) for i in order)
        found = Field(places, cells.transpose(order))
        self.fields[node.outputs[0]] = found
        return found

    def _sum(self, node: Node) -> None:
        addends = self.ledger.addends(node)
        rank = self._rank(node.outputs[0]) if self._is_ragged(node) else None
        fields = [self._lifted(value, rank) for value, _ in addends]
        axes, sizes = _union(fields)
        target = self.laws.new_field(axes, sizes)
        cells = target.over(axes, sizes)
        terms: list[tuple[Cells, Array | float]] = [(cells, -1.0)]
        for (value, sign), found in zip(addends, fields, strict=True):
            if value.constant is not None and _is_changeable(value):
                found = self.constants[node, value] = self.laws.new_field(axes, sizes)
            self.laws.laws += scale_laws(cells, found.over(axes, sizes), 1.0, node)
            terms.append((found.over(axes, sizes), float(sign)))
        self.laws.laws += shift_laws(terms, 0.0, node)
        self.fields[node.outputs[0]] = target

    def _is_ragged(self, node: Node) -> bool:
        """Whether the inputs may have different ranks. Unknown ranks must not matter."""
        ranks = {self.graph.rank(v) for v in node.inputs if v.constant is None}
        return len(ranks) > 1 or None in ranks

    def _lifted(self, value: Value, rank: int | None) -> Field:
        """A field in a value of higher rank, as broadcasting puts it there."""
        found = self.field(value)
        if rank is None or not found.axes:
            return found
        grown = rank - self._rank(value)
        return Field(tuple(axis + grown for axis in found.axes), found.cells)

    def _product(self, node: Node) -> None:
        """One factor keeps its gauge; the other's scale is that of the product."""
        assert isinstance(node.kind, Product)
        a, b = node.inputs
        rank = self._rank(node.outputs[0]) if self._is_ragged(node) else None
        first, second = self._lifted(a, rank), self._lifted(b, rank)
        if self.origin(a) is self.origin(b):
            raise Refused(Reason.SHIFT_BLOCKED, node.label)
        if first.is_fixed and not node.kind.divides:
            first, second = second, first
        self.laws.fix(second.cells, node)
        self.laws.no_shift(first.cells, node)
        self.fields[node.outputs[0]] = first

    def _along(self, found: Field, axis: int, size: int, node: Node) -> Cells:
        """The cells of an input of which a node can absorb what varies along one axis only."""
        if axis not in found.axes:
            flat = found.cells.reshape(-1)
            self.laws.same(flat[1:], np.broadcast_to(flat[:1], flat[1:].shape), node)
            return np.full(size, flat[0])
        rows = np.moveaxis(found.cells, found.axes.index(axis), 0)
        if len(rows) != size:
            raise Refused(Reason.AXIS_MISMATCH, node.label)
        rows = rows.reshape(size, -1)
        first = rows[:, :1]
        self.laws.same(rows, np.broadcast_to(first, rows.shape), node)
        return np.asarray(first[:, 0])


_STATES: dict[type, Callable[[Network, Node], None]] = {
    Linear: Network._linear,
    Norm: Network._norm,
    Affine: Network._affine,
    Movement: Network._movement,
    Average: Network._average,
    Monotone: Network._monotone,
    Homogeneous: Network._homogeneous,
    Sum: Network._sum,
    Product: Network._product,
}


def _origins(graph: Graph, ledger: Ledger) -> dict[Value, Value]:
    """What the outputs of bypassed nodes are by now."""
    found: dict[Value, Value] = {}
    for node in graph.nodes:
        source = ledger.source(node)
        if source is not None:
            found[node.outputs[0]] = found.get(source, source)
    return found


def _is_changeable(value: Value) -> bool:
    constant = value.constant
    return constant is not None and constant.obstacle is None and is_float(constant.dtype)


def _union(
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
