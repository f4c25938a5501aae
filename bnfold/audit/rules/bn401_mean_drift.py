"""The mean of what reaches a layer is not the stored one.

What it does
------------
With `--data`: the shift of the observed mean against the stored one, in stored standard deviations
√(variance + ε), as the root mean square over the live channels. A warning from `mean-warning`, an
error from `mean-error`. Layers whose statistics look untouched are left to BN105.

Why it matters
--------------
The layer subtracts a mean that is no longer there, so its output is off-centre and the activation
behind it works in another range than it was trained in: covariate shift, made visible per layer.

What to do
----------
See BN404 for where it begins. If it begins at the first layer, check the preprocessing first
(scaling, channel order, mean subtraction). If the data really differs from the training data,
`bnfold recalibrate` on a sample of it, and compare the accuracy before and after.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from bnfold.audit.drift_severity import by_size
from bnfold.audit.finding import Severity
from bnfold.audit.rule import Hit, Rule, number

if TYPE_CHECKING:
    from bnfold.audit.subject import Subject


def check(subject: Subject) -> Iterable[Hit]:
    limits = subject.thresholds
    for layer, drift in subject.compared:
        size = drift.mean_rms
        severity = by_size(size, limits.mean_warning, limits.mean_error)
        if severity:
            yield Hit(
                f"The mean is off by {number(size)} standard deviations "
                f"({drift.count:,} values per channel).",
                layer.name,
                size,
                severity=severity,
            )


RULE = Rule(
    "BN401", "mean-drift", Severity.WARNING, check, __doc__,
    thresholds=("mean-warning", "mean-error"),
)  # fmt: skip
