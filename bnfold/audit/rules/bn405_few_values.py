"""The sample is too small to tell drift from chance.

What it does
------------
With `--data`: reports when there are fewer than `few-samples` samples, or when some layer saw fewer
than `few-values` values per channel.

Why it matters
--------------
The mean of n independent values is known to σ/√n and their variance to √(2/n): of 16 values, to a
quarter of a deviation and a third of the variance. Layers behind a global pool see one value per
sample. Neighbouring pixels are not independent, so the counts of early layers flatter, and two
photographs are two whatever their size.

What to do
----------
Give more samples, a few hundred of different kinds. Sorted or repeated samples count once.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import inf
from typing import TYPE_CHECKING

from bnfold.audit.finding import Severity
from bnfold.audit.rule import Hit, Rule, counted, listed

if TYPE_CHECKING:
    from bnfold.audit.subject import Subject

_CHANCE = "what is said of drift may be chance"


def check(subject: Subject) -> Iterable[Hit]:
    limits = subject.thresholds
    samples = next(
        (layer.observed.samples for layer, _ in subject.compared if layer.observed), None
    )
    if samples is not None and samples < limits.few_samples:
        yield Hit(f"The data holds {counted(samples, 'sample')}; {_CHANCE}.", size=inf)
    few = [
        (drift.count, layer.name)
        for layer, drift in subject.compared
        if drift.count < limits.few_values
    ]
    if few:
        names = [name for _, name in few]
        yield Hit(
            f"{counted(len(few), 'layer')} saw as few as {min(few)[0]:,} values per channel "
            f"({listed(names)}); {_CHANCE}.",
            size=len(few),
        )


RULE = Rule(
    "BN405", "few-values", Severity.INFO, check, __doc__, thresholds=("few-samples", "few-values")
)
