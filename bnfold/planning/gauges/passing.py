"""What nodes that pass gauges on demand of them: those that move, average, compare or rectify elements."""

from __future__ import annotations

import numpy as np

from bnfold.graph import Node
from bnfold.kinds import Average, Homogeneous, Mixture, Monotone, Movement
from bnfold.planning.gauges.laws import Cells, Field
from bnfold.planning.gauges.movements import moved, writes_constants
from bnfold.planning.gauges.network import Network, is_changeable, union
from bnfold.planning.kinds import average as averages
from bnfold.planning.kinds.mixture import check_mixed
from bnfold.planning.probe import touched_axes
from bnfold.planning.reasons import Reason, Refused


def movement(network: Network, node: Node) -> None:
    kind = node.kind
    assert isinstance(kind, Movement)
    if kind.cast is not None and kind.cast[0] != kind.cast[1]:
        raise Refused(Reason.NARROW_TYPE, node.label)
    if kind.touched == ():
        network.fields[node.outputs[0]] = network.field(node.inputs[0])
        return
    fields = _input_fields(network, node)
    if all(f.is_fixed for f in fields):
        return
    whole = {axis for f in fields for axis in f.axes}
    axes = touched_axes(node, network.rank(node.inputs[0])) if whole else set()
    if kind.fill is not None and kind.fill != 0:
        raise Refused(Reason.SHIFT_BLOCKED, node.label)
    if axes is not None and not axes & whole:
        _carried(network, node, fields)
    else:
        _moved(network, node, fields)
    if kind.fill is not None:
        for f in fields:
            network.laws.no_shift(f.cells, node)


def _carried(network: Network, node: Node, fields: list[Field]) -> None:
    """Along other axes than those on which the gauges vary."""
    zeros, others = writes_constants(node, network.graph)
    if others:
        raise Refused(Reason.SHIFT_BLOCKED, node.label)
    axes, sizes = union(fields)
    first = fields[0].over(axes, sizes)
    for other in fields[1:]:
        network.laws.same(other.over(axes, sizes), first, node)
    if zeros:
        network.laws.no_shift(first, node)
    for value in node.outputs:
        network.fields[value] = Field(axes, first)


def _moved(network: Network, node: Node, fields: list[Field]) -> None:
    for value, found in zip(node.outputs, moved(node, fields, network.graph), strict=False):
        network.laws.no_shift(found.beside_zeros, node)
        network.laws.fix(found.beside_others, node)
        cells = found.cells.copy()
        if (zeros := cells < 0).any():
            cells[zeros] = network.laws.new_field((0,), (int(zeros.sum()),)).cells
            network.laws.no_shift(cells[zeros], node)
        network.fields[value] = Field(found.axes, cells)


def _input_fields(network: Network, node: Node) -> list[Field]:
    """The fields of a movement's inputs; a constant among them can be given any gauge."""
    fields = [network.field(value) for value in node.inputs]
    vary = {axis for f in fields for axis in f.axes}
    for i, value in enumerate(node.inputs):
        if value.constant is not None and is_changeable(value):
            shape = value.constant.shape
            axes = touched_axes(node, len(shape))
            wanted = tuple(sorted(vary | (axes or set()))) if axes is not None else ()
            if wanted and wanted[-1] >= len(shape):  # it does not line up with the others
                raise Refused(Reason.AXIS_MISMATCH, node.label)
            fields[i] = network.laws.new_field(wanted, tuple(shape[axis] for axis in wanted))
            network.constants[node, value] = fields[i]
    return fields


def average(network: Network, node: Node) -> None:
    assert isinstance(node.kind, Average)
    found = _reduced(network, node, node.kind.axes)
    if not found.is_fixed and not averages.passes_shift(node, network.graph):
        network.laws.no_shift(found.cells, node)


def monotone(network: Network, node: Node) -> None:
    assert isinstance(node.kind, Monotone)
    network.laws.positive(_reduced(network, node, node.kind.axes).cells, node)


def homogeneous(network: Network, node: Node) -> None:
    assert isinstance(node.kind, Homogeneous)
    if not node.kind.rectifies:  # a magnitude passes the other sign too, a leak with another slope
        network.unsigned.add(node)
    if node.kind.axes is None:
        found = network.fields[node.outputs[0]] = network.field(node.inputs[0])
    else:
        found = _reduced(network, node, node.kind.axes)
    network.laws.positive(found.cells, node)
    network.laws.no_shift(found.cells, node)


def mixture(network: Network, node: Node) -> None:
    """The gauge of what is mixed, the same along the axis; weights are what they are."""
    kind, (mixed, *others) = node.kind, node.inputs
    assert isinstance(kind, Mixture)
    if mixed in others:
        raise Refused(Reason.ACROSS_REGIONS, node.label)
    check_mixed(node, network.graph)
    rank = network.rank(node.outputs[0])
    found = network.lifted(mixed, rank)
    axis = rank + kind.axis
    if axis in found.axes:
        found = _first_along(network, node, found, found.axes.index(axis))
    if not kind.sums_to_one:
        network.laws.no_shift(found.cells, node)
    for other in others:
        network.laws.fix(network.field(other).cells, node)
    network.fields[node.outputs[0]] = found


def _first_along(network: Network, node: Node, found: Field, i: int) -> Field:
    """One gauge for all elements along the axis at place ``i``."""
    first: Cells = np.take(found.cells, 0, axis=i)
    spread = np.broadcast_to(np.expand_dims(first, i), found.cells.shape)
    network.laws.same(found.cells, spread, node)
    return Field((*found.axes[:i], *found.axes[i + 1 :]), first)


def _reduced(network: Network, node: Node, axes: tuple[int | None, ...]) -> Field:
    """The output of an operator that puts the elements along some axes into one."""
    source = network.field(node.inputs[0])
    for i in reversed(range(len(source.axes))):
        if source.axes[i] not in axes:
            source = _first_along(network, node, source, i)
    kept, cells = source.axes, source.cells
    order = sorted(range(len(kept)), key=lambda i: axes.index(kept[i]))
    places = tuple(axes.index(kept[i]) for i in order)
    found = Field(places, cells.transpose(order))
    network.fields[node.outputs[0]] = found
    return found
