"""Folding makes the weights of some channels vanish beside others.

What it does
------------
Compares the largest weight of each output channel before and after the fold, in layers that fold
into the linear layer in front. It reports layers where more than `lost-share` of the live channels
fall within one step of zero on an int8 grid spanned by the whole tensor, and did not before.

Why it matters
--------------
A fold multiplies each channel by its own gain. In floating point that is exact. Quantised to int8
with one scale for the tensor, a channel whose weights are 1/127 of the largest keeps none of them:
the usual reason why a quantised depthwise network loses its accuracy.

What to do
----------
Quantise the weights with one scale per channel (`per_channel=True` in onnxruntime's quantisation).
Where the target knows only one scale per tensor, equalise the ranges across layers first
(cross-layer equalisation; Nagel et al., ICCV 2019).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from bnfold.audit.finding import Severity
from bnfold.audit.rule import Hit, Rule

if TYPE_CHECKING:
    import numpy as np

    from bnfold.algebra.affine import Array
    from bnfold.audit.subject import Layer, Subject

_STEPS = 127


def check(subject: Subject) -> Iterable[Hit]:
    import numpy as np

    for layer in subject.known:
        peaks = _peaks(layer)
        if peaks is None:
            continue
        before, after = peaks
        lost_before, lost = _lost(before), _lost(after)
        if lost.mean() > subject.thresholds.lost_share and lost.sum() > 2 * lost_before.sum():
            ranges = [float(p.max() / np.median(p)) for p in (before, after)]
            yield Hit(
                f"With one int8 scale for the folded weight, {lost.sum()} of {lost.size} channels "
                f"fall within one step of zero ({lost_before.sum()} before the fold); the largest "
                f"channel is {ranges[1]:.3g} times the median one ({ranges[0]:.3g} before).",
                layer.name,
                size=float(lost.mean()),
            )


def _peaks(layer: Layer) -> tuple[Array, Array] | None:
    """The largest weight of each live channel before and after the fold."""
    import numpy as np

    from bnfold.kinds import Linear
    from bnfold.planning import Action, Direction

    decision, linear = layer.decision, layer.linear_before
    if decision is None or decision.action is not Action.FOLD or linear is None:
        return None
    if decision.direction is not Direction.BACKWARD or linear.name not in decision.into:
        return None
    assert isinstance(linear.kind, Linear)
    before = linear.kind.layout.channel_peaks(linear.kind.weight.parts)
    if before.shape != layer.gain.shape:
        return None
    after = before * layer.gain
    live = (before > 0) & ~layer.dead & (np.abs(layer.norm.scale) > layer.thresholds.zero_scale)
    live &= np.isfinite(after)
    return (before[live], after[live]) if live.sum() > 1 else None


def _lost(peaks: Array) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    lost: np.ndarray[tuple[int], np.dtype[np.bool_]] = peaks < peaks.max() / _STEPS
    return lost


RULE = Rule("BN108", "weight-range", Severity.WARNING, check, __doc__, thresholds=("lost-share",))
