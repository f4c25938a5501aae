"""From what was absorbed to the few edits that a format's writer knows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from bnfold.graph import Graph, Linear, Norm
from bnfold.planning.decision import Bypass, Edit, Reconstant, Renorm, Revalue, Reweight
from bnfold.planning.kinds import norm
from bnfold.planning.ledger import ConstantState, Ledger, LinearState, NormState


def edits_of(ledger: Ledger, graph: Graph, merged: tuple[Any, ...] = ()) -> tuple[Edit, ...]:
    """The edits in graph order, those on nodes that disappear by a merge of branches left out."""
    gone = {node for edit in merged for node in edit.branches}
    return tuple(edit for edit in _edits(ledger, graph) if edit.node not in gone)


def _edits(ledger: Ledger, graph: Graph) -> Iterator[Any]:
    for node in graph.nodes:
        if ledger.is_bypassed(node):
            yield Bypass(node)
            continue
        state = ledger.states.get(node)
        if isinstance(state, LinearState):
            assert isinstance(node.kind, Linear)
            yield Reweight(node, state.out_scale, state.in_scale, state.bias, state.bias_changed)
        elif isinstance(state, NormState):
            assert isinstance(node.kind, Norm)
            yield Renorm(node, *norm.parameters(node.kind, state))
        elif isinstance(state, ConstantState):
            yield Reconstant(node, state.array)
        for value in dict.fromkeys(node.inputs):
            branch = ledger.states.get((node, value))
            if isinstance(branch, ConstantState):
                yield Revalue(node, value, branch.array)
