"""Channels are switched off: their scale is zero.

What it does
------------
Counts the channels whose |γ| is at most `zero-scale`.

Why it matters
--------------
The channel's output is its shift β and nothing else. That is what training with weight decay or
with a sparsity penalty on γ (network slimming) leaves behind, and then it is intended. In a network
that was not pruned it is capacity that does nothing.

What to do
----------
Nothing, if it is intended. To make the network smaller, prune these channels; what their β adds
belongs into the bias of the layers that read them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from bnfold.audit.finding import Severity
from bnfold.audit.rule import Hit, Rule, on_channels

if TYPE_CHECKING:
    from bnfold.audit.subject import Subject


def check(subject: Subject) -> Iterable[Hit]:
    for layer in subject.known:
        off = abs(layer.norm.scale) <= subject.thresholds.zero_scale
        if off.any():
            yield on_channels(layer, off, "The scale switches off {n}.")


RULE = Rule("BN107", "zero-scale", Severity.INFO, check, __doc__, thresholds=("zero-scale",))
