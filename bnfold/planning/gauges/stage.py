"""The stage of the plan that takes what single maps leave."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

import numpy as np

from bnfold.algebra.rounding import float_info, is_half
from bnfold.graph import Graph, Node, Norm, Value
from bnfold.planning.gauges.carry_out import Impossible, carry_out, changed
from bnfold.planning.gauges.conflicts import Conflict
from bnfold.planning.gauges.laws import Candidate
from bnfold.planning.gauges.network import Network
from bnfold.planning.gauges.solution import Solver, choose
from bnfold.planning.kinds import norm
from bnfold.planning.ledger import Ledger
from bnfold.planning.reasons import Reason, Refused
from bnfold.planning.walk import Walk

_FAR = 16
_SPAN, _HALF_SPAN = 40.0, 6.0


@dataclass(eq=False)
class GaugeFold:
    """What the stage did: the norms that go, who absorbs each, and the values in another gauge."""

    gone: dict[Node, tuple[Node, ...]] = field(default_factory=dict)
    region: frozenset[Value] = frozenset()
    refusals: dict[Node, Refused] = field(default_factory=dict)


def fold_with_gauges(graph: Graph, ledger: Ledger, norms: list[Node]) -> GaugeFold:
    """Removes all norms that some choice of gauges makes the identity, and enters it in the ledger.

    Args:
        graph: the network.
        ledger: what its nodes have absorbed.
        norms: those that still stand.
    """
    result = GaugeFold()
    sound = [node for node in norms if _may_go(node, ledger, result)]
    if not sound:
        return result
    network = Network(graph, ledger, sound)
    if not network.laws.candidates:
        return result
    solver = Solver(network.laws, _span(sound))
    refused: dict[Node, Refused] = result.refusals
    while True:
        accepted, conflicts = choose(solver, refused)
        if not accepted:
            break
        gauges = solver.gauges()
        walk = Walk(graph, ledger, merging=True)
        try:
            carry_out(network, gauges, {c.node for c in accepted}, walk)
        except Impossible as error:
            refused[_to_blame(accepted, error)] = error.refusal
            continue
        walk.ledger.commit()
        result.gone = {c.node: _takers(c.node, network, walk.into) for c in accepted}
        result.region = changed(network, gauges)
        break
    return result


def _may_go(node: Node, ledger: Ledger, result: GaugeFold) -> bool:
    try:
        norm.check_source(node)
    except Refused:
        return False
    scale, shift = norm.vectors(node, ledger)
    return bool(np.isfinite(scale).all() and np.isfinite(shift).all() and (scale != 0).all())


def _takers(node: Node, network: Network, absorbing: Collection[Node]) -> tuple[Node, ...]:
    """The nearest nodes before and behind a norm that absorb something: whom to name."""
    taking, found = set(absorbing), dict[Node, None]()
    for ahead in (False, True):
        pending, seen = list(_neighbours(node, network, ahead)), set[Node]()
        while pending and len(seen) < _FAR:
            other = pending.pop(0)
            if other in seen:
                continue
            seen.add(other)
            if other in taking:
                found[other] = None
            else:
                pending += _neighbours(other, network, ahead)
    return tuple(found)


def _neighbours(node: Node, network: Network, ahead: bool) -> list[Node]:
    if ahead:
        return [r for v in node.outputs for r in network.readers(network.origin(v))]
    sources = [network.origin(value) for value in node.inputs]
    return [value.producer for value in sources if value.producer is not None]


def _to_blame(accepted: list[Candidate], error: Impossible) -> Node:
    return accepted[-1].node


def _span(norms: list[Node]) -> float:
    kinds = [n.kind for n in norms if isinstance(n.kind, Norm)]
    narrow = any(is_half(k.dtype) and float_info(k.dtype).max < 1e6 for k in kinds)
    return _HALF_SPAN if narrow else _SPAN
