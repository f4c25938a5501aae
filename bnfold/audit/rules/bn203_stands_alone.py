"""A BatchNorm has no linear layer to go into.

What it does
------------
Reports layers between operators that no affine map can pass: activations, sums with a branch that
cannot take the same scale, custom operators, the input of the graph.

Why it matters
--------------
The layer stays in the graph and costs a pass over memory. Its result is right.

What to do
----------
Nothing for this file. When the network is designed anew, put BatchNorm directly behind a
convolution or a linear layer, or directly before one that does not pad.
"""

from __future__ import annotations

from bnfold.audit.finding import Severity
from bnfold.audit.rule import Rule
from bnfold.audit.structure import ALONE, ALONE_REASONS, situation

RULE = Rule("BN203", ALONE, Severity.INFO, situation(ALONE), __doc__, reasons=ALONE_REASONS)
