"""Variance and epsilon are both zero.

What it does
------------
Looks for channels in which variance + ε is exactly zero.

Why it matters
--------------
The layer divides by the root of it. In these channels the output is infinite or NaN for every
input.

What to do
----------
Set ε to what the network was trained with (1e-5 in PyTorch and ONNX, 1e-3 in Keras): a converter
has lost it. If ε was zero in training as well, the channel is dead and its scale can be set to
zero.
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
        norm = layer.norm
        zero = norm.variance + layer.epsilon == 0
        if zero.any():
            yield on_channels(
                layer, zero, f"Variance and epsilon ({layer.epsilon:g}) add up to zero in {{n}}."
            )


RULE = Rule(
    "BN103", "division-by-zero", Severity.ERROR, check, __doc__, reasons=(Reason.ZERO_VARIANCE,)
)
