"""Einsum with one constant operand, where it is a matrix product."""

from __future__ import annotations

from bnfold.formats.einsum import einsum_layer
from bnfold.formats.onnx.graph.operators.view import NodeView, Reading


def read_einsum(view: NodeView) -> Reading | None:
    constants = [view.constant(i) for i in range(len(view.proto.input))]
    if len(constants) != 2 or (constants[0] is None) == (constants[1] is None):
        return None
    flow = 0 if constants[0] is None else 1
    weight = constants[1 - flow]
    assert weight is not None
    kind = einsum_layer(view.attribute("equation", ""), flow, view.rank(flow), weight)
    return None if kind is None else Reading(kind, (view.name(flow),))


READERS = {"Einsum": read_einsum}
