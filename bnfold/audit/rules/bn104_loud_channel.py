"""A nearly constant channel is amplified far more than its neighbours.

What it does
------------
Looks for live channels whose running variance is at or below ε and whose gain |γ|/√(variance + ε)
is at least `loud-gain` times the median gain of their layer.

Why it matters
--------------
In training such a channel hardly varied, so the layer learned to multiply it by a large number. On
other data, in half precision or after quantisation it varies more, and that difference arrives
downstream multiplied. How large the gain is depends on ε more than on the data, so a runtime with
another ε computes something else.

What to do
----------
Compare with real data: `bnfold inspect --data` shows whether the variance in use is larger than the
stored one. If it is, recalibrate; if the channel carries nothing, set its scale to zero.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from bnfold.audit.finding import Severity
from bnfold.audit.rule import Hit, Rule, on_channels

if TYPE_CHECKING:
    from bnfold.audit.subject import Subject


def check(subject: Subject) -> Iterable[Hit]:
    import numpy as np

    for layer in subject.known:
        norm = layer.norm
        live = np.isfinite(layer.gain) & ~layer.dead & (layer.gain > 0)
        if not live.any():
            continue
        median = float(np.median(layer.gain[live]))
        loud = live & (norm.variance <= layer.epsilon)
        loud &= layer.gain >= subject.thresholds.loud_gain * median
        if loud.any():
            most = float(layer.gain[loud].max())
            text = (
                f"{{n}} hardly varied in training (variance down to "
                f"{norm.variance[loud].min():.2g}, epsilon {layer.epsilon:.2g}); the gain reaches "
                f"{most:.3g}, where the layer's median is {median:.3g}."
            )
            yield on_channels(layer, loud, text, size=most / median)


RULE = Rule("BN104", "loud-channel", Severity.WARNING, check, __doc__, thresholds=("loud-gain",))
