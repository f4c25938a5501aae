"""The variance of what reaches a layer is not the stored one.

What it does
------------
With `--data`: how many times the observed variance and the stored one differ, ε added to both, as
the geometric mean over the live channels of the larger over the smaller (root mean square of the
logarithm). A warning from `variance-warning`, an error from `variance-error`. Layers whose
statistics look untouched are left to BN105.

Why it matters
--------------
The layer divides by a deviation that is no longer there: its output is too loud or too faint, and so
is all that follows. Typical causes are data of another contrast, dropout in training, weight
averaging (SWA, EMA), pruning and quantisation without a pass to renew the statistics.

What to do
----------
`bnfold recalibrate` on a sample of the data that the network will see, and compare the accuracy
before and after.
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
        size = drift.variance_factor
        severity = by_size(size, limits.variance_warning, limits.variance_error)
        if severity:
            way = "larger" if drift.variance_direction > 1 else "smaller"
            yield Hit(
                f"The variance differs by a factor of {number(size)}, mostly {way} than stored "
                f"({drift.count:,} values per channel).",
                layer.name,
                size,
                severity=severity,
            )


RULE = Rule(
    "BN402", "variance-drift", Severity.WARNING, check, __doc__,
    thresholds=("variance-warning", "variance-error"),
)  # fmt: skip
