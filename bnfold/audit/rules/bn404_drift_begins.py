"""Where in the network the drift begins.

What it does
------------
With `--data`: names the first layer, in the order of the network, whose mean or variance is adrift
(BN401, BN402), and says how many layers follow it.

Why it matters
--------------
A layer that computes on drifted values drifts itself, so only the first one tells the cause.
Everything in front of it sees what it was trained on.

What to do
----------
Look for the cause between it and the last calm layer, or, if it is the first BatchNorm of the
network, in the preprocessing of the input. Within the network the cause is mostly a weight that was
changed (pruned, quantised, averaged, fine-tuned) without its statistics.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from bnfold.audit.drift_severity import is_adrift
from bnfold.audit.finding import Severity
from bnfold.audit.rule import Hit, Rule, counted

if TYPE_CHECKING:
    from bnfold.audit.subject import Subject


def check(subject: Subject) -> Iterable[Hit]:
    compared = subject.compared
    adrift = [is_adrift(layer, drift) for layer, drift in compared]
    if not any(adrift):
        return
    first = adrift.index(True)
    layer = compared[first][0]
    share = f"{sum(adrift)} of {counted(len(adrift), 'layer')} adrift"
    if layer.index == 0:
        where = "from the first BatchNorm on, so check the preprocessing of the input first"
    else:
        where = f"with {counted(first, 'calm layer')} before it"
    yield Hit(f"The drift begins here: {share}, {where}.", layer.name)


RULE = Rule("BN404", "drift-begins", Severity.INFO, check, __doc__)
