"""Something on the way keeps a BatchNorm from folding.

What it does
------------
Reports layers that stay for another reason than their place in the network: parameters or weights
that are computed while the model runs, quantised weights, unknown shapes, channels that do not line
up.

Why it matters
--------------
The layer costs time, and often something about the file can be improved so that it folds.

What to do
----------
Read the reason: it names the operator in the way and what helps. Shapes become known by shape
inference or an export with fixed sizes; computed parameters by letting the exporter fold constants;
quantise after folding, not before.
"""

from __future__ import annotations

from bnfold.audit.finding import Severity
from bnfold.audit.rule import Rule, kept_for
from bnfold.planning import Reason

REASONS = (
    Reason.COMPUTED_STATISTICS,
    Reason.SPATIAL_STATISTICS,
    Reason.UNKNOWN_SHAPE,
    Reason.COMPUTED_WEIGHT,
    Reason.QUANTIZED_WEIGHT,
    Reason.AXIS_MISMATCH,
    Reason.MIXED_CHANNELS,
    Reason.NEGATIVE_SCALE,
    Reason.BROADCAST,
    Reason.SHARED_CONSTANT,
    Reason.DEQUANTIZED,
    Reason.PROBE_FAILED,
)
RULE = Rule("BN207", "fold-blocked", Severity.INFO, kept_for(*REASONS), __doc__, reasons=REASONS)
