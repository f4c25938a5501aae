"""The edits of a plan, made from the ledger (the parameters that folding has changed)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from bnfold.graph import Graph
from bnfold.kinds import Linear, Norm
from bnfold.planning import quantised
from bnfold.planning.decision import (
    Bypass,
    DropAddends,
    Edit,
    Reconstant,
    Renorm,
    Revalue,
    Reweight,
)
from bnfold.planning.kinds import norm
from bnfold.planning.ledger import ConstantState, Ledger, LinearState, NormState


def edits_of(ledger: Ledger, graph: Graph) -> tuple[Edit, ...]:
    """The edits in graph order, those on nodes that a merge of branches has removed left out."""
    return tuple(edit for edit in _edits(ledger, graph) if not ledger.is_gone(edit.node))


def _edits(ledger: Ledger, graph: Graph) -> Iterator[Any]:
    for node in graph.nodes:
        for value in dict.fromkeys(node.inputs):
            branch = ledger.states.get((node, value))
            if isinstance(branch, ConstantState):
                yield Revalue(node, value, branch.array)
        source = ledger.source(node)
        if source is not None:
            yield Bypass(node, source)
            continue
        if dropped := ledger.dropped(node):
            yield DropAddends(node, dropped)
        state = ledger.states.get(node)
        if isinstance(node.kind, Linear):
            kind = ledger.kind(node)
            if isinstance(state, LinearState) and kind.weight.quantised is not None:
                bias = state.bias if state.bias_changed else None
                yield from quantised.edits(node, kind, state.out_scale, state.in_scale, bias)
            elif isinstance(state, LinearState) or kind is not node.kind:
                new = ledger.linear(node)
                changed = new.bias_changed or kind is not node.kind
                yield Reweight(node, kind, new.out_scale, new.in_scale, new.bias, changed)
        elif isinstance(state, NormState):
            assert isinstance(node.kind, Norm)
            yield Renorm(node, *norm.parameters(node.kind, state))
        elif isinstance(state, ConstantState):
            yield Reconstant(node, state.array)
