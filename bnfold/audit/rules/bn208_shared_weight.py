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
from typing import TYPE_CHECKING

from bnfold.audit.finding import Severity
from bnfold.audit.rule import Hit, Rule, listed

if TYPE_CHECKING:
    from bnfold.audit.subject import Subject
    from bnfold.graph import Node


def check(subject: Subject) -> Iterable[Hit]:
    from bnfold.kinds import Linear
    from bnfold.planning import Action

    users: dict[tuple[int, str], list[Node]] = {}
    for node in subject.graph.nodes:
        if isinstance(node.kind, Linear):
            users.setdefault((node.scope, node.kind.weight.name), []).append(node)
    for layer in subject.layers:
        decision = layer.decision
        if decision is None or decision.action is Action.KEEP:
            continue
        for node in subject.named(decision.into):
            if not isinstance(node.kind, Linear):
                continue
            users_too = users.get((node.scope, node.kind.weight.name), ())
            others = [n.label for n in users_too if n is not node]
            if others:
                yield Hit(
                    f"Folds into {node.label}, whose weight {listed(others)} "
                    f"use{'s' if len(others) == 1 else ''} too: it gets a copy of its own.",
                    layer.name,
                )


RULE = Rule("BN208", "shared-weight", Severity.INFO, check, __doc__)
