"""Folds by gauges what single maps could not: the last stage of making a plan."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import numpy as np

from bnfold.algebra.rounding import float_info, is_half
from bnfold.graph import Graph, Node, Value
from bnfold.kinds import Norm
from bnfold.planning.gauges.carry_out import Impossible, carry_out, changed
from bnfold.planning.gauges.conflicts import Clash, Conflict
from bnfold.planning.gauges.demands import network_of
from bnfold.planning.gauges.laws import Candidate
from bnfold.planning.gauges.network import Network
from bnfold.planning.gauges.refusals import check_soundness, far_offsets, refusal_of
from bnfold.planning.gauges.solution import Solver, alone, choose
from bnfold.planning.ledger import Ledger
from bnfold.planning.reasons import Refused
from bnfold.planning.walk import Walk

_FAR = 16
# Contradictions of the laws themselves; a number type has other bounds in another file.
_THEOREMS = {Clash.SCALE, Clash.SHIFT, Clash.SIGN}
_ATTEMPTS = 8
_SPAN, _HALF_SPAN = 40.0, 6.0


@dataclass(eq=False)
class GaugeFold:
    """What the stage did: the norms that go, who absorbs each, and the values in another gauge.

    ``impossible`` are those that could not go even if all others stayed, whatever gauges were chosen.
    ``has_choice``: of some product the other factor could have kept its gauge as well.
    """

    gone: dict[Node, tuple[Node, ...]] = field(default_factory=dict)
    region: frozenset[Value] = frozenset()
    refusals: dict[Node, Refused] = field(default_factory=dict)
    impossible: frozenset[Node] = frozenset()
    has_choice: bool = False

    def heed(self, other: GaugeFold) -> None:
        """Takes over the reasons of a stage that ran when less had been merged: what a merge took away
        from the gauges is no reason, and no theorem either."""
        self.refusals = {**self.refusals, **other.refusals}
        self.impossible = frozenset(
            node
            for node in self.impossible
            if node not in other.refusals or node in other.impossible
        )


def fold_with_gauges(
    graph: Graph, ledger: Ledger, norms: list[Node], *, turned: bool = False
) -> GaugeFold:
    """Removes all norms that some choice of gauges makes the identity, and enters it in the ledger.

    Args:
        graph: the network.
        ledger: what its nodes have absorbed.
        norms: those that still stand.
        turned: which factor of a product keeps its gauge, as in `network_of`.
    """
    result = GaugeFold()
    network = network_of(graph, ledger, norms, turned=turned) if norms else None
    if network is None or not network.laws.candidates:
        return result
    result.has_choice = network.has_choice
    solver = Solver(network.laws, _span(norms))
    refused = result.refusals
    for candidate in network.laws.candidates:
        try:
            check_soundness(candidate.node, network)
        except Refused as refusal:
            refused[candidate.node] = refusal
    for attempt in range(_ATTEMPTS):
        accepted, conflicts = choose(solver, refused)
        gauges = solver.gauges()
        while far := far_offsets(accepted, network, gauges):
            refused |= far
            accepted, conflicts = choose(solver, refused)
            gauges = solver.gauges()
        walk = Walk(graph, ledger, merging=True)
        try:
            carry_out(network, gauges, {c.node for c in accepted}, walk)
        except Impossible as error:
            blamed = _to_blame(accepted, error.node, network, solver)
            last = attempt == _ATTEMPTS - 2
            refused |= dict.fromkeys([c.node for c in accepted] if last else blamed, error.refusal)
            continue
        walk.ledger.commit()
        result.gone = {c.node: _takers(c.node, network, walk.into) for c in accepted}
        result.region = changed(network, gauges)
        found = alone(solver, accepted, conflicts)
        result.impossible = frozenset() if solver.is_strict else _proved(found, network)
        refused |= {n: refusal_of(n, c, ledger) for n, c in conflicts.items()}
        break
    return result


def _proved(alone: Mapping[Node, Conflict], network: Network) -> frozenset[Node]:
    """Of norms that could not go even alone: those of which that is a theorem."""
    unsure, unsigned = network.near(network.unsure), network.near(network.unsigned)
    sure = (n for n, c in alone.items() if c.clash in _THEOREMS and n not in unsure)
    return frozenset(n for n in sure if alone[n].clash is not Clash.SIGN or n not in unsigned)


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


def _to_blame(
    accepted: list[Candidate], node: Node, network: Network, solver: Solver
) -> list[Node]:
    """The norms to leave where ``node`` cannot take its part: the last whose scales meet there."""
    none = np.zeros(0, np.int64)
    cells = np.concatenate([network.read.get(node, none), network.written.get(node, none)])
    near = [c for c in accepted if cells.size and solver.shares_a_class(c, cells)]
    return [(near or accepted)[-1].node]


def _span(norms: list[Node]) -> float:
    kinds = [n.kind for n in norms if isinstance(n.kind, Norm)]
    narrow = any(is_half(k.dtype) and float(float_info(k.dtype).max) < 1e6 for k in kinds)
    return _HALF_SPAN if narrow else _SPAN
