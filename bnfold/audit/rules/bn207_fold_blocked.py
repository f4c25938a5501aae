"""Something on the way keeps a BatchNorm from folding.

What it does
------------
Reports layers that stay for another reason than their place in the network: parameters or weights
that are computed while the model runs, quantised weights, unknown shapes, channels that do not line
up.

Why it matters
--------------
The layer costs time, and often something about the file can be improved so that it folds.

What to do
----------
Read the reason: it names the operator in the way and what helps. Shapes become known by shape
inference or an export with fixed sizes; computed parameters by letting the exporter fold constants;
quantise after folding, not before.
"""

from __future__ import annotations

from bnfold.audit.finding import Severity
from bnfold.audit.rule import Rule, kept_for
from bnfold.audit.rules import (
    bn101_non_finite,
    bn102_negative_variance,
    bn103_division_by_zero,
    bn109_fold_loses_numbers,
    bn201_training_mode,
    bn202_overridable_parameters,
)
from bnfold.audit.structure import STRUCTURAL_REASONS
from bnfold.planning.reasons import Reason

_SAID_ELSEWHERE = {
    *STRUCTURAL_REASONS,
    *bn101_non_finite.RULE.reasons,
    *bn102_negative_variance.RULE.reasons,
    *bn103_division_by_zero.RULE.reasons,
    *bn109_fold_loses_numbers.RULE.reasons,
    *bn201_training_mode.RULE.reasons,
    *bn202_overridable_parameters.RULE.reasons,
}
# A checkpoint has no graph at all, which a note says once for all of its layers.
_SAID_ONCE = {"NO_GRAPH"}
REASONS = tuple(r for r in Reason if r not in _SAID_ELSEWHERE and r.name not in _SAID_ONCE)

RULE = Rule("BN207", "fold-blocked", Severity.INFO, kept_for(*REASONS), __doc__, reasons=REASONS)
