"""The running statistics look untouched: mean 0 and variance 1 everywhere.

What it does
------------
Looks for layers in which every running mean is exactly 0 and every running variance exactly 1, the
values that frameworks give to a new layer. With `--data` it says how far they are from what reaches
the layer; the rules of drift (BN4) leave such a layer alone.

Why it matters
--------------
Most often the statistics were lost: the checkpoint was loaded without its buffers, the layer was
added and never trained, or the momentum kept it from learning. Then the network computes something
else than it did in training. But it can be right: a network trained in evaluation mode (frozen
BatchNorm) has these values and needs them; measuring them anew would ruin it.

What to do
----------
Find out which it is: measure the accuracy on labelled data, once as it is and once on a copy made
by `bnfold recalibrate`, and keep the better one. If it is right as it is, ignore this rule for the
model (`ignore = ["BN105"]` in the settings).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from bnfold.audit.finding import Severity
from bnfold.audit.rule import Hit, Rule, number

if TYPE_CHECKING:
    from bnfold.audit.subject import Layer, Subject


def check(subject: Subject) -> Iterable[Hit]:
    for layer in subject.known:
        if layer.is_untouched:
            yield Hit(
                f"Mean 0 and variance 1 in all {layer.norm.mean.size} channels: as a new layer "
                f"has them, or as a network trained in evaluation mode keeps them.{_on_data(layer)}",
                layer.name,
                size=layer.norm.mean.size,
            )


def _on_data(layer: Layer) -> str:
    drift = layer.drift
    if drift is None:
        return ""
    return (
        f" On the data the mean is {number(drift.mean_rms)} deviations from 0 and the variance a "
        f"factor of {number(drift.variance_factor)} from 1."
    )


RULE = Rule("BN105", "untouched-statistics", Severity.WARNING, check, __doc__)
