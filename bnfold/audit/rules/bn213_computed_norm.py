"""What looks like a BatchNorm computes its statistics from each input.

What it does
------------
Reports a scale and shift per channel that follows a normalisation by computed statistics: layer,
instance or group normalisation, written out as single operations or not.

Why it matters
--------------
It is no BatchNorm, though tools take it for one: it has no running statistics to audit or to
recalibrate, and there is no fixed map to fold.

What to do
----------
Nothing. It works as intended and bnfold leaves it alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from bnfold.audit.finding import Severity
from bnfold.audit.rule import Hit, Rule

if TYPE_CHECKING:
    from bnfold.audit.subject import Subject


def check(subject: Subject) -> Iterable[Hit]:
    from bnfold.audit.chains import chains

    for chain in chains(subject.graph):
        if chain.computed:
            yield Hit(
                f"{chain.label} scales and shifts what a normalisation computed from each input.",
                chain.nodes[0].name,
            )


RULE = Rule("BN213", "computed-norm", Severity.INFO, check, __doc__)
