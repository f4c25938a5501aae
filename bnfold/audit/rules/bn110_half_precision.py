"""The statistics do not fit into half precision.

What it does
------------
Looks for a running mean or variance beyond `half-limit`, the largest float16 number.

Why it matters
--------------
Converted to float16, the variance becomes infinite and its channel constant: the network loses it
without any message. The activations in front of this layer are as large and overflow as well.

What to do
----------
Fold before converting: the folded weights are of ordinary size. Or use bfloat16, or keep this layer
and the one in front in float32.
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
        largest = np.maximum(np.abs(layer.norm.mean), layer.norm.variance)
        beyond = np.isfinite(largest) & (largest > subject.thresholds.half_limit)
        if beyond.any():
            text = f"Mean or variance reaches {largest[beyond].max():.3g} in {{n}}, more than float16 holds."
            yield on_channels(layer, beyond, text, size=float(largest[beyond].max()))


RULE = Rule("BN110", "half-precision", Severity.WARNING, check, __doc__, thresholds=("half-limit",))
