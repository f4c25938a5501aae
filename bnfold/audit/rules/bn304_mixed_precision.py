"""BatchNorm parameters have another number type than the weights beside them.

What it does
------------
Compares the type of each layer's parameters with that of the linear layer in front, or, where there
is none, with the type that most BatchNorm of the model have.

Why it matters
--------------
It is usual and sound to keep BatchNorm in float32 beside half-precision weights. Several tools fold
such a pair into a file that no runtime loads. bnfold computes in float64 and writes the type of the
weight.

What to do
----------
Nothing. Should the fold be refused for overflow, fold the float32 model and convert afterwards.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING

from bnfold.audit.finding import Severity
from bnfold.audit.rule import Hit, Rule

if TYPE_CHECKING:
    from bnfold.audit.subject import Layer, Subject


def check(subject: Subject) -> Iterable[Hit]:
    types = Counter(layer.norm.dtype.name for layer in subject.layers)
    for layer in subject.layers:
        usual, where = _expected(layer) or (types.most_common(1)[0][0], "most of the others")
        if layer.norm.dtype.name != usual:
            yield Hit(f"Its parameters are {layer.norm.dtype.name}, {where} {usual}.", layer.name)


def _expected(layer: Layer) -> tuple[str, str] | None:
    from bnfold.kinds import Linear

    linear = layer.linear_before
    if linear is None or not isinstance(linear.kind, Linear):
        return None
    dtype = linear.kind.weight.dtype
    return (dtype.name, f"the weight of {linear.label}") if "float" in dtype.name else None


RULE = Rule("BN304", "mixed-precision", Severity.INFO, check, __doc__)
