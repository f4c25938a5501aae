"""The sample is too small to tell drift from chance.

What it does
------------
With `--data`: reports when some layer saw fewer than `few-values` values per channel.

Why it matters
--------------
The mean of n independent values is known to σ/√n and their variance to √(2/n): of 16 values, to a
quarter of a deviation and a third of the variance. Layers behind a global pool see one value per
sample. Neighbouring pixels are not independent, so counts of early layers flatter.

What to do
----------
Give more samples, a few hundred of different kinds. Sorted or repeated samples count once.
"""

from __future__ import annotations

from collections.abc import Iterable

from bnfold.audit.finding import Severity
from bnfold.audit.rule import Hit, Rule, counted, listed
from bnfold.audit.subject import Subject


def check(subject: Subject) -> Iterable[Hit]:
    few = [
        (drift.count, layer.name)
        for layer, drift in subject.compared
        if drift.count < subject.thresholds.few_values
    ]
    if few:
        names = [name for _, name in few]
        yield Hit(
            f"{counted(len(few), 'layer')} saw as few as {min(few)[0]:,} values per channel "
            f"({listed(names)}); what is said of their drift may be chance.",
            size=len(few),
        )


RULE = Rule("BN405", "few-values", Severity.INFO, check, __doc__, thresholds=("few-values",))
