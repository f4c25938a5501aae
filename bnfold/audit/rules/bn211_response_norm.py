"""Local response normalisation stands beside a BatchNorm.

What it does
------------
Looks for a local response normalisation (LRN) that feeds the BatchNorm or reads it, directly or
across one activation or pool.

Why it matters
--------------
It was meant to keep activations in range, which BatchNorm does; the paper removes it (Ioffe &
Szegedy, ICML 2015, section 4.2.1). It is slow, and no affine map passes it, so it can keep a
BatchNorm from folding.

What to do
----------
Nothing for this file. Leave it out when you train again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from bnfold.audit.finding import Severity
from bnfold.audit.rule import Hit, Rule

if TYPE_CHECKING:
    from bnfold.audit.subject import Layer, Subject
    from bnfold.graph import Node

_NAMES = ("lrn", "local_response_norm")


def check(subject: Subject) -> Iterable[Hit]:
    for layer in subject.layers:
        found = next((n for n in _beside(layer) if n.op.lower() in _NAMES), None)
        if found is not None:
            yield Hit(
                f"{found.label} stands beside it, which BatchNorm makes needless.", layer.name
            )


def _beside(layer: Layer) -> Iterator[Node]:
    """Two steps to either side, no linear layer crossed."""
    from bnfold.kinds import Linear

    for first in filter(None, [layer.source.producer]):
        yield first
        if not isinstance(first.kind, Linear):
            yield from (v.producer for v in first.inputs if v.producer is not None)
    for reader in layer.node.outputs[0].readers:
        yield reader
        if not isinstance(reader.kind, Linear):
            yield from (r for value in reader.outputs for r in value.readers)


RULE = Rule("BN211", "response-norm", Severity.INFO, check, __doc__)
