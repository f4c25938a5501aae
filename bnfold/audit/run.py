"""Running the rules over one model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from bnfold.audit.drift import Observed
from bnfold.audit.finding import Finding
from bnfold.audit.rules import RULES
from bnfold.audit.selection import Selection
from bnfold.audit.subject import Subject
from bnfold.graph import Graph
from bnfold.planning import Plan


class HasGraph(Protocol):
    """All that the audit asks of a model."""

    @property
    def graph(self) -> Graph: ...


def run_rules(
    model: HasGraph,
    plan: Plan,
    selection: Selection | None = None,
    observed: Mapping[str, Observed] | None = None,
) -> tuple[Finding, ...]:
    """Every finding of the selected rules, the worst severity first, then by code and layer order.

    Args:
        model: an opened model.
        plan: what `make_plan` made of its graph.
        selection: which rules, and their thresholds; None means all with the defaults.
        observed: what reached each BatchNorm on data, by its name; None leaves the BN4 rules out.
    """
    chosen = selection or Selection()
    subject = Subject.of(model.graph, plan, observed, chosen.thresholds)
    found = [f for rule in RULES if chosen.picks(rule.code) for f in rule.findings(subject)]
    return tuple(sorted(found, key=lambda f: (f.severity.rank, f.code)))
