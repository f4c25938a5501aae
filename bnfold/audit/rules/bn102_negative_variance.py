"""The running variance is negative.

What it does
------------
Looks for variances below zero.

Why it matters
--------------
No data has a negative variance. It is the trace of E[x²] − E[x]² computed in float32, which loses
all its digits where the mean is large beside the deviation, or of arithmetic on checkpoints
(averaging with negative weights, task vectors). Below −ε the layer takes the root of a negative
number and the output is NaN; above, the channel is amplified far too much.

What to do
----------
Measure the statistics anew with `bnfold recalibrate`. If a script of yours computes them, let it
accumulate the mean and the squared deviations instead.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from bnfold.audit.finding import Severity
from bnfold.audit.rule import Hit, Rule, on_channels
from bnfold.planning.reasons import Reason

if TYPE_CHECKING:
    from bnfold.audit.subject import Subject


def check(subject: Subject) -> Iterable[Hit]:
    for layer in subject.known:
        negative = layer.norm.variance < 0
        if negative.any():
            least = layer.norm.variance[negative].min()
            yield on_channels(
                layer, negative, f"The variance is negative in {{n}}, down to {least:.3g}."
            )


RULE = Rule(
    "BN102", "negative-variance", Severity.ERROR, check, __doc__,
    reasons=(Reason.NEGATIVE_VARIANCE,),
)  # fmt: skip
