"""A fold would overflow or vanish in the weight's number type.

What it does
------------
Reports layers that the plan keeps because the folded weight or bias would be infinite, or a whole
channel zero, in the type that the weight is stored in.

Why it matters
--------------
In float32 this means that statistics or scale are broken. In half precision it happens to healthy
networks: the largest number is 65504. Other tools write the infinity into the file.

What to do
----------
Fold the float32 model and convert the folded one to half precision afterwards. If the model is in
float32 already, look at the variance and the scale of this layer.
"""

from __future__ import annotations

from bnfold.audit.finding import Severity
from bnfold.audit.rule import Rule, kept_for
from bnfold.planning.reasons import Reason

REASONS = (Reason.OVERFLOW, Reason.UNDERFLOW)
RULE = Rule(
    "BN109", "fold-loses-numbers", Severity.ERROR, kept_for(*REASONS), __doc__, reasons=REASONS
)
