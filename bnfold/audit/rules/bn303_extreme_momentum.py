"""Momentum is 0 or 1: statistics that never move, or have no memory.

What it does
------------
Reports layers whose momentum is exactly 0 or 1.

Why it matters
--------------
For the network as it stands it does not matter at all: inference does not use it. It matters when
somebody trains on. Frameworks mean opposite things by the number: in PyTorch it is the weight of the
new batch (0: the statistics never change; 1: only the last batch counts), in ONNX, Keras and
TensorFlow the weight of the old value (1: never change; 0: only the last batch). Converters mix the
two up, and nobody can tell from the number alone which was meant.

What to do
----------
Before training on, set it by hand: 0.1 in PyTorch is 0.9 in ONNX and Keras. For deployment leave
it.
"""

from __future__ import annotations

from collections.abc import Iterable

from bnfold.audit.finding import Severity
from bnfold.audit.rule import Hit, Rule, listed
from bnfold.audit.subject import Subject


def check(subject: Subject) -> Iterable[Hit]:
    for extreme in (0.0, 1.0):
        names = [layer.name for layer in subject.layers if layer.norm.momentum == extreme]
        if names:
            yield Hit(
                f"Momentum is {extreme:g} in {len(names)} of {len(subject.layers)} layers "
                f"({listed(names)}). Inference is not concerned; training on would be.",
                size=len(names),
            )


RULE = Rule("BN303", "extreme-momentum", Severity.INFO, check, __doc__)
