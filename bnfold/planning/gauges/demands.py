"""What nodes that absorb, add or multiply demand of the gauges around them, and the table of all kinds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from bnfold.algebra.affine import Array
from bnfold.graph import Graph, Node, Value
from bnfold.kinds import (
    Affine,
    Average,
    Homogeneous,
    Linear,
    Mixture,
    Monotone,
    Movement,
    Norm,
    Opaque,
    Product,
    Sum,
)
from bnfold.planning.gauges import constants, passing
from bnfold.planning.gauges.laws import (
    IDENTITY,
    Candidate,
    Cells,
    Field,
    ScaleLaw,
    ShiftLaw,
    scale_laws,
    shift_laws,
)
from bnfold.planning.gauges.network import Network, is_changeable, union
from bnfold.planning.kinds import affine, norm
from bnfold.planning.ledger import Ledger, check_changeable
from bnfold.planning.reasons import Reason, Refused


def network_of(graph: Graph, ledger: Ledger, norms: list[Node], *, turned: bool = False) -> Network:
    """The network around some norms, with all its laws.

    ``turned``: of a product of two values that both may vary, the first keeps its gauge, not the second.
    """
    network = Network(graph, ledger, norms, turned=turned)
    for node in network.nodes:
        _state(network, node)
    for value in network.reached:
        network.fix_what_others_read(value)
    return network


def _state(network: Network, node: Node) -> None:
    """Enters the laws of a node, and the fields of its outputs."""
    foreign = any(network.origin(v).scope != node.scope for v in node.inputs)
    state = _STATES.get(type(node.kind))
    try:
        if state is None or foreign:
            if not (isinstance(node.kind, Opaque) and node.kind.nonlinear):
                network.unsure.add(node)
            network.opaque(node)
        else:
            state(network, node)
    except Refused:
        network.unsure.add(node)
        network.opaque(node)


def _linear(network: Network, node: Node) -> None:
    kind = network.ledger.kind(node)
    check_changeable(node, kind)
    source, target = node.inputs[0], node.outputs[0]
    ranks = _ranks(network, source, target, kind)
    cells = _along(
        network, network.field(source), kind.in_axis % ranks[0], kind.layout.inputs, node
    )
    if not kind.every_tap_everywhere or kind.layout.is_stack:
        network.laws.no_shift(cells, node)
    for other in node.inputs[1:]:
        network.laws.fix(network.field(other).cells, node)
    network.read[node] = cells
    _writes(network, node, kind.out_axis % ranks[1], kind.layout.outputs)
    if kind.activation is not None:
        _is_activated(network, node, kind.activation)


def _is_activated(network: Network, node: Node, activation: Homogeneous | Opaque) -> None:
    """What a layer writes has passed an activation of its own."""
    written = network.written[node]
    if isinstance(activation, Homogeneous):
        network.laws.positive(written, node)
        network.laws.no_shift(written, node)
    else:
        network.laws.fix(written, node)


def _ranks(network: Network, source: Value, target: Value, kind: Linear) -> tuple[int, int]:
    if kind.in_axis >= 0 and kind.out_axis >= 0:
        return kind.in_axis + 1, kind.out_axis + 1
    return network.rank(source), network.rank(target)


def _writes(network: Network, node: Node, axis: int, size: int) -> None:
    """The output of a node that can be given any gauge along ``axis``."""
    value = node.outputs[0]
    if value not in network.reached:
        network.written[node] = np.full(size, IDENTITY)
        return
    network.fields[value] = found = network.laws.new_field((axis,), (size,))
    network.written[node] = np.broadcast_to(found.cells, (size,))


def _norm(network: Network, node: Node) -> None:
    kind = node.kind
    assert isinstance(kind, Norm)
    norm.check_source(node)
    axis, size = kind.axis, kind.channels
    network.read[node] = cells = _along(network, network.field(node.inputs[0]), axis, size, node)
    _writes(network, node, axis, size)
    scale, shift = norm.vectors(node, network.ledger)
    if node in network.own:
        live, after = scale != 0, network.written[node]
        places = np.flatnonzero(live)
        scales = scale_laws(after[live], cells[live], scale[live], node)
        terms = [(after[live], 1.0), (cells[live], -scale[live])]
        size = norm.magnitude(node, network.ledger)[live]
        shifts = shift_laws(terms, shift[live], node, size) if live.any() else []
        own: list[ScaleLaw | ShiftLaw] = [*scales, *shifts]
        laws = tuple(replace(law, places=places[law.places]) for law in own)
        levels = constants.levels(node, network)[~live]
        dead = np.flatnonzero(~live)
        network.laws.candidates.append(Candidate(node, laws, after[dead], levels, dead))


def _affine(network: Network, node: Node) -> None:
    kind = node.kind
    assert isinstance(kind, Affine)
    if kind.constant is not None:
        affine.check_fixed(kind.constant)
    source = network.field(node.inputs[0])
    rank = network.rank(node.inputs[0])
    own = affine.current_map(node, rank, network.ledger)
    affine.refuse_growth(node, own, network.graph)
    axes, sizes = union([source], own)
    before = source.over(axes, sizes)
    after = network.laws.new_field(axes, sizes)
    cells = after.over(axes, sizes)
    scales = kind.form in ("x*c", "x/c")
    factor = own.scale.reshape([own.scale.shape[axis] for axis in axes]) if scales else None
    if not own.is_finite:
        raise Refused(Reason.OVERFLOW, node.label)
    if factor is None:
        network.laws.laws += scale_laws(cells, before, 1.0, node)
    if kind.form == "-x":
        network.laws.laws += shift_laws([(cells, 1.0), (before, 1.0)], 0.0, node)
    elif factor is not None:
        factor = np.broadcast_to(factor, sizes)
        network.laws.laws += shift_laws([(cells, 1.0), (before, -factor)], 0.0, node)
    network.fields[node.outputs[0]] = after


def _sum(network: Network, node: Node) -> None:
    addends = network.ledger.addends(node)
    rank = network.rank(node.outputs[0]) if network.is_ragged(node) else None
    fields = [network.lifted(value, rank) for value, _ in addends]
    axes, sizes = union(fields)
    target = network.laws.new_field(axes, sizes)
    cells = target.over(axes, sizes)
    terms: list[tuple[Cells, Array | float]] = [(cells, -1.0)]
    for (value, weight), found in zip(addends, fields, strict=True):
        if value.constant is not None and is_changeable(value):
            found = network.constants[node, value] = network.laws.new_field(axes, sizes)
        network.laws.laws += scale_laws(cells, found.over(axes, sizes), 1.0, node)
        terms.append((found.over(axes, sizes), float(weight)))
    network.laws.laws += shift_laws(terms, 0.0, node)
    network.fields[node.outputs[0]] = target


def _product(network: Network, node: Node) -> None:
    """One factor keeps its gauge; the other's scale is that of the product."""
    assert isinstance(node.kind, Product)
    a, b = node.inputs
    rank = network.rank(node.outputs[0]) if network.is_ragged(node) else None
    first, second = network.lifted(a, rank), network.lifted(b, rank)
    if network.origin(a) is network.origin(b):
        raise Refused(Reason.SHIFT_BLOCKED, node.label)
    if not node.kind.divides and (first.is_fixed or (network.turned and not second.is_fixed)):
        first, second = second, first
    if not second.is_fixed:
        network.unsure.add(node)
        network.has_choice |= not node.kind.divides
    network.laws.fix(second.cells, node)
    network.laws.no_shift(first.cells, node)
    network.fields[node.outputs[0]] = first


def _along(network: Network, found: Field, axis: int, size: int, node: Node) -> Cells:
    """The cells of an input of which a node can absorb what varies along one axis only."""
    if axis not in found.axes:
        flat = found.cells.reshape(-1)
        network.laws.same(flat[1:], np.broadcast_to(flat[:1], flat[1:].shape), node)
        return np.full(size, flat[0])
    rows = np.moveaxis(found.cells, found.axes.index(axis), 0)
    if len(rows) != size:
        raise Refused(Reason.AXIS_MISMATCH, node.label)
    rows = rows.reshape(size, -1)
    first = rows[:, :1]
    network.laws.same(rows, np.broadcast_to(first, rows.shape), node)
    return np.asarray(first[:, 0])


_STATES: dict[type, Callable[[Network, Node], None]] = {
    Linear: _linear,
    Norm: _norm,
    Affine: _affine,
    Movement: passing.movement,
    Average: passing.average,
    Mixture: passing.mixture,
    Monotone: passing.monotone,
    Homogeneous: passing.homogeneous,
    Sum: _sum,
    Product: _product,
}
