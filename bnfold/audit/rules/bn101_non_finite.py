"""A parameter holds NaN or infinity.

What it does
------------
Looks for values that are not finite in the running mean, the running variance, the scale and the
shift.

Why it matters
--------------
One such value makes its channel NaN, and the next layer spreads it over the whole output. It comes
from a training step that diverged, from a batch with NaN in it, or from half-precision buffers that
overflowed.

What to do
----------
Restore a checkpoint from before it happened. Where only the running mean or variance is concerned
and the weights are sound, `bnfold recalibrate` measures both anew.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from bnfold.audit.finding import Severity
from bnfold.audit.rule import Hit, Rule, on_channels
from bnfold.planning.reasons import Reason

if TYPE_CHECKING:
    from bnfold.audit.subject import Subject


def check(subject: Subject) -> Iterable[Hit]:
    import numpy as np

    for layer in subject.known:
        norm = layer.norm
        arrays = {"running mean": norm.mean, "running variance": norm.variance,
                  "scale": norm.scale, "shift": norm.shift}  # fmt: skip
        for what, array in arrays.items():
            bad = ~np.isfinite(array)
            if bad.any():
                yield on_channels(layer, bad, f"The {what} is NaN or infinite in {{n}}.")


RULE = Rule(
    "BN101", "non-finite", Severity.ERROR, check, __doc__, reasons=(Reason.NON_FINITE_STATISTICS,)
)
