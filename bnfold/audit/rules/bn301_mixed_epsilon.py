"""The BatchNorm layers of one file have different epsilons.

What it does
------------
Compares ε of all layers, rounded to two digits.

Why it matters
--------------
Within one network this is rarely meant: parts come from different frameworks (1e-5 in PyTorch and
ONNX, 1e-3 in Keras and TensorFlow), or one layer was added by hand. Where the variance is small, a
wrong ε changes the output.

What to do
----------
Compare with the training code. If the difference is there as well, all is well.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import isnan
from typing import TYPE_CHECKING

from bnfold.audit.finding import Severity
from bnfold.audit.rule import Hit, Rule, counted, listed

if TYPE_CHECKING:
    from bnfold.audit.subject import Subject


def check(subject: Subject) -> Iterable[Hit]:
    groups: dict[str, list[str]] = {}
    for layer in (each for each in subject.layers if not isnan(each.epsilon)):
        groups.setdefault(f"{layer.epsilon:.2g}", []).append(layer.name)
    if len(groups) > 1:
        ordered = sorted(groups.items(), key=lambda item: -len(item[1]))
        parts = [f"{value} in {counted(len(names), 'layer')}" for value, names in ordered[:-1]]
        rare, names = ordered[-1]
        yield Hit(f"Epsilon is {', '.join(parts)} and {rare} in {listed(names)}.")


RULE = Rule("BN301", "mixed-epsilon", Severity.INFO, check, __doc__)
