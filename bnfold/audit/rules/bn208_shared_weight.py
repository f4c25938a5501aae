"""A fold gives a layer its own copy of a shared weight.

What it does
------------
Reports folds into a linear layer whose weight another layer of the network uses as well.

Why it matters
--------------
After the fold the two need different weights, so bnfold clones the tensor before it changes it. The
result is right and the file grows by that tensor. Tools that fold in place change both layers and
are silently wrong.

What to do
----------
Nothing, unless the size of the file matters more than the time of one BatchNorm.
"""

from __future__ import annotations

from collections.abc import Iterable

from bnfold.audit.finding import Severity
from bnfold.audit.rule import Hit, Rule, listed
from bnfold.audit.subject import Subject
from bnfold.graph import Linear, Node
from bnfold.planning import Action


def check(subject: Subject) -> Iterable[Hit]:
    users: dict[tuple[int, str], list[Node]] = {}
    for node in subject.graph.nodes:
        if isinstance(node.kind, Linear):
            users.setdefault(_key(node), []).append(node)
    for layer in subject.layers:
        decision = layer.decision
        if decision is None or decision.action is Action.KEEP:
            continue
        for node in subject.named(decision.into):
            others = [n.label for n in users.get(_key(node), ()) if n is not node]
            if others and isinstance(node.kind, Linear):
                yield Hit(
                    f"Folds into {node.label}, whose weight {listed(others)} "
                    f"use{'s' if len(others) == 1 else ''} too: it gets a copy of its own.",
                    layer.name,
                )


def _key(node: Node) -> tuple[int, str]:
    return (node.scope, node.kind.weight.name) if isinstance(node.kind, Linear) else (0, "")


RULE = Rule("BN208", "shared-weight", Severity.INFO, check, __doc__)
