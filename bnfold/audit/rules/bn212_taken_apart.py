"""A BatchNorm has been taken apart into single operations.

What it does
------------
Looks for Mul, Div, Add and Sub with one constant per channel, one behind the other, that scale and
shift. Where scale and shift are computed from the values themselves it is a layer normalisation and
not reported here (BN213).

Why it matters
--------------
Converters and optimisers write a BatchNorm so, and it costs more passes over memory than the layer
itself did. The statistics are gone: they cannot be audited or recalibrated any more. A fold takes
these operations away like any BatchNorm.

What to do
----------
`bnfold fold` removes those of them that are exact to fold. To recalibrate, go back to the model from
before the conversion.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from bnfold.audit.finding import Severity
from bnfold.audit.rule import Hit, Rule

if TYPE_CHECKING:
    from bnfold.audit.chains import Chain
    from bnfold.audit.subject import Subject


def check(subject: Subject) -> Iterable[Hit]:
    from bnfold.audit.chains import chains

    gone = {decision.name for decision in subject.plan.affines}
    for chain in chains(subject.graph):
        if not chain.computed:
            fate = (
                "folds" if all(n.name in gone for n in chain.nodes) else "stays, in part or whole"
            )
            yield Hit(f"{chain.label} is {_what(chain)}; it {fate}.", chain.nodes[0].name)


def _what(chain: Chain) -> str:
    """The norm that the file tells of, or what it amounts to."""
    from bnfold.kinds import Affine

    parts = {n.kind.part_of for n in chain.nodes if isinstance(n.kind, Affine)}
    name = parts.pop() if len(parts) == 1 else None
    return f"the frozen BatchNorm '{name}'" if name else "an affine map per channel"


RULE = Rule("BN212", "taken-apart", Severity.INFO, check, __doc__)
