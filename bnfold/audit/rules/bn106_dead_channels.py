"""Channels are dead: their input never varied.

What it does
------------
Counts the channels whose running variance is at most `dead-variance` times ε, or denormal.

Why it matters
--------------
The channel hands on a constant, β − γ·mean/√ε, whatever the image shows. Real networks are full of
them (a ReLU in front of the layer that never fires, weight decay that took a filter to zero), and
they do no harm. They cost memory and time, and their variance of nearly zero is a trap for tools
that divide by it.

What to do
----------
Nothing, if accuracy is as it should be. To make the network smaller, prune these channels; their
constant belongs into the bias of the layers that read them.
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
        dead = layer.dead
        if dead.any():
            most = layer.norm.variance[dead].max()
            yield on_channels(
                layer, dead, f"The input never varied in {{n}} (variance ≤ {most:.2g})."
            )


RULE = Rule("BN106", "dead-channels", Severity.INFO, check, __doc__, thresholds=("dead-variance",))
