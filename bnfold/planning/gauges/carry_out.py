"""From gauges to what every node absorbs, entered into the ledger."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from bnfold.algebra.affine import AffineMap
from bnfold.graph import Node, Value
from bnfold.kinds import Affine, Linear, Norm, Sum
from bnfold.planning.gauges.laws import Field
from bnfold.planning.gauges.network import Network
from bnfold.planning.gauges.refusals import check_rest
from bnfold.planning.gauges.solution import Gauges
from bnfold.planning.kinds import affine, norm
from bnfold.planning.ledger import NormState, check_vector
from bnfold.planning.reasons import Refused
from bnfold.planning.walk import Walk


class Impossible(Exception):
    """Raised where a node cannot take what the gauges give it."""

    def __init__(self, node: Node, refusal: Refused) -> None:
        super().__init__(str(refusal))
        self.node = node
        self.refusal = refusal


def carry_out(network: Network, gauges: Gauges, gone: Collection[Node], walk: Walk) -> None:
    """Gives every node that stays what makes the network compute the same in the new gauges.

    Args:
        network: the laws and fields.
        gauges: a solution of them.
        gone: the norms that the gauges make the identity.
        walk: takes what is absorbed.

    Raises:
        Impossible: where a weight or a constant does not survive in its number type.
    """
    carrier = _Carrier(network, gauges, walk)
    for node in network.nodes:
        try:
            if node in gone:
                walk.ledger.bypass(node)
            else:
                carrier.carry(node)
        except Refused as refusal:
            raise Impossible(node, refusal) from None


def changed(network: Network, gauges: Gauges) -> frozenset[Value]:
    """The values that are stored in another gauge, under all their names."""
    return frozenset(
        value
        for origin, found in network.fields.items()
        if not gauges.are_identity(found.cells)
        for value in (origin, *network.aliases.get(origin, ()))
    )


class _Carrier:
    def __init__(self, network: Network, gauges: Gauges, walk: Walk) -> None:
        self.network = network
        self.gauges = gauges
        self.walk = walk

    def carry(self, node: Node) -> None:
        if node in self.network.read:
            if isinstance(node.kind, Linear):
                self._linear(node)
            elif isinstance(node.kind, Norm):
                self._norm(node)
        elif isinstance(node.kind, Affine):
            self._affine(node)
        for value in dict.fromkeys(node.inputs):
            if (node, value) in self.network.constants:
                self._constant(node, value)

    def _linear(self, node: Node) -> None:
        read, written = self.network.read[node], self.network.written[node]
        if not self.gauges.are_identity(read):
            self.walk.ledger.absorb_input(node, *self.gauges.of(read))
            self.walk.absorbed_by(node)
        if not self.gauges.are_identity(written):
            scale, shift = self.gauges.of(written)
            self.walk.ledger.absorb_output(node, 1 / scale, -shift / scale)
            self.walk.absorbed_by(node)

    def _norm(self, node: Node) -> None:
        kind = node.kind
        assert isinstance(kind, Norm)
        read, written = self.network.read[node], self.network.written[node]
        if self.gauges.are_identity(read) and self.gauges.are_identity(written):
            return
        own_scale, own_shift = norm.vectors(node, self.walk.ledger)
        (before, moved), (after, wanted) = self.gauges.of(read), self.gauges.of(written)
        check_rest(node, (own_scale, own_shift), before)
        state = NormState(
            own_scale * before / after, (own_scale * moved + own_shift - wanted) / after
        )
        for array in norm.parameters(kind, state):
            check_vector(array, kind.dtype, node.label)
        self.walk.ledger.put(node, state)
        self.walk.absorbed_by(node)

    def _affine(self, node: Node) -> None:
        kind = node.kind
        assert isinstance(kind, Affine)
        source, target = (self.network.field(v) for v in (node.inputs[0], node.outputs[0]))
        if self.gauges.are_identity(source.cells) and self.gauges.are_identity(target.cells):
            return
        rank = self.network.graph.rank(node.inputs[0])
        assert rank is not None
        own = affine.current_map(node, rank, self.walk.ledger)
        new = self._map(source, rank).then(own).then(_inverse(self._map(target, rank)))
        if kind.constant is not None:
            affine.become(node, new, self.walk)

    def _constant(self, node: Node, value: Value) -> None:
        found = self.network.constants[node, value]
        if self.gauges.are_identity(found.cells):
            return
        assert value.constant is not None
        summed = isinstance(node.kind, Sum)  # its axes are those of the sum, which may have more
        rank = self.network.rank(node.outputs[0]) if summed else len(value.constant.shape)
        self.walk.absorb_in_constant(value, _inverse(self._map(found, rank)), node)

    def _map(self, found: Field, rank: int) -> AffineMap:
        shape = [1] * rank
        for axis, size in zip(found.axes, found.cells.shape, strict=True):
            shape[axis] = size
        scale, shift = self.gauges.of(found.cells)
        return AffineMap(scale.reshape(shape), shift.reshape(shape))


def _inverse(amap: AffineMap) -> AffineMap:
    with np.errstate(all="ignore"):
        return AffineMap(1 / amap.scale, -amap.shift / amap.scale)
