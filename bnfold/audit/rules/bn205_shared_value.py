"""A value that a fold would change is read elsewhere too.

What it does
------------
Reports layers whose input is read by another node as well, is an output of the graph, or is read
inside the body of a loop or condition.

Why it matters
--------------
Folding would change what that other reader sees. Several tools do it all the same, and the folded
model is silently wrong.

What to do
----------
Usually nothing: the layer stays and the result is right. If the other reader is an output that
nobody needs (a debug output, say), remove it and fold again; if it is a parallel branch of a RepVGG
block, use `--reparameterize`.
"""

from __future__ import annotations

from bnfold.audit.finding import Severity
from bnfold.audit.rule import Rule
from bnfold.audit.structure import SHARED, SHARED_REASONS, situation

RULE = Rule("BN205", SHARED, Severity.INFO, situation(SHARED), __doc__, reasons=SHARED_REASONS)
