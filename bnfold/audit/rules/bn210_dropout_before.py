"""Dropout stands directly before a BatchNorm.

What it does
------------
Looks for a dropout operator whose output the BatchNorm reads.

Why it matters
--------------
In training, dropout makes the values vary more than they do in use, and the running variance
remembers that: too large by the factor 1/keep probability and more. In use the normalised values
come out too small ("variance shift"; Li et al., CVPR 2019).

What to do
----------
Measure the statistics without dropout: `bnfold recalibrate` does. When you train again, put dropout
behind the last BatchNorm.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from bnfold.audit.finding import Severity
from bnfold.audit.rule import Hit, Rule

if TYPE_CHECKING:
    from bnfold.audit.subject import Subject


def check(subject: Subject) -> Iterable[Hit]:
    for layer in subject.layers:
        dropout = next((n for n in layer.before() if "dropout" in n.op.lower()), None)
        if dropout is not None:
            yield Hit(
                f"{dropout.label} is in front: the running variance was measured with it active, "
                "and in use it is not.",
                layer.name,
            )


RULE = Rule("BN210", "dropout-before", Severity.WARNING, check, __doc__)
