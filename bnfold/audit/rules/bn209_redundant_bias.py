"""The layer in front has a bias that BatchNorm cancels in training.

What it does
------------
Reports linear layers with a bias directly in front of a BatchNorm that alone reads them.

Why it matters
--------------
In training the subtraction of the batch mean takes the bias out again, so it learns nothing; the
shift β stands in for it (Ioffe & Szegedy, ICML 2015, section 3.2). In the deployed network it is
part of the running mean and does no harm, and folding removes the second of the two.

What to do
----------
Nothing for this file. Build the layer without it (`bias=False`) when you train again.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from bnfold.audit.finding import Severity
from bnfold.audit.rule import Hit, Rule

if TYPE_CHECKING:
    from bnfold.audit.subject import Subject


def check(subject: Subject) -> Iterable[Hit]:
    from bnfold.kinds import Linear

    for layer in subject.layers:
        linear = layer.linear_before
        if linear is None or len(layer.source.readers) != 1 or layer.source.is_output:
            continue
        assert isinstance(linear.kind, Linear)
        bias = linear.kind.bias
        if bias is not None and bias.load().any():
            yield Hit(f"The bias of {linear.label} in front has no effect in training.", layer.name)


RULE = Rule("BN209", "redundant-bias", Severity.INFO, check, __doc__)
