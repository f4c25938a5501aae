"""Epsilon is zero, or far from what frameworks use.

What it does
------------
Reports an ε of zero, below `epsilon-min` or above `epsilon-max`.

Why it matters
--------------
Too small, it no longer keeps a channel of small variance from being amplified without bounds, and
in half precision it is zero. Too large, it shrinks every channel whose variance is of its size:
usually a slip of the exponent.

What to do
----------
Compare with the training code. If the network was trained so, leave it; a fold keeps its effect
exactly.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from bnfold.audit.finding import Severity
from bnfold.audit.rule import Hit, Rule

if TYPE_CHECKING:
    from bnfold.audit.subject import Subject


def check(subject: Subject) -> Iterable[Hit]:
    limits = subject.thresholds
    for layer in subject.layers:
        epsilon = layer.epsilon
        # float32 attributes: 1e-8 is stored as 9.99999993922529e-09.
        if epsilon < limits.epsilon_min * (1 - 1e-6):
            yield Hit(f"Epsilon is {epsilon:g}, unusually small.", layer.name)
        elif epsilon > limits.epsilon_max * (1 + 1e-6):
            yield Hit(f"Epsilon is {epsilon:g}, unusually large.", layer.name, size=epsilon)


RULE = Rule(
    "BN302", "unusual-epsilon", Severity.WARNING, check, __doc__,
    thresholds=("epsilon-min", "epsilon-max"),
)  # fmt: skip
