"""Single channels see another distribution than they were trained on.

What it does
------------
With `--data`: the Jeffreys divergence of the stored and the observed Gaussian of each channel
(both Kullback-Leibler divergences added, in nats). It reports channels from `divergence-warning` in
layers that are calm otherwise; 4 nats is a mean off by two standard deviations, or a variance off
by a factor of ten.

Why it matters
--------------
A few channels that went astray do not show in a layer's average, and still move the output. A
channel that was silent in training and speaks now is the usual case: its gain was never tried.

What to do
----------
Look at these channels in the page that `--report` writes. If the data is representative,
`bnfold recalibrate` measures them anew.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from bnfold.audit.drift_severity import is_adrift
from bnfold.audit.finding import Severity
from bnfold.audit.rule import Hit, Rule, on_channels

if TYPE_CHECKING:
    from bnfold.audit.subject import Subject


def check(subject: Subject) -> Iterable[Hit]:
    for layer, drift in subject.compared:
        astray = drift.live & (drift.divergence >= subject.thresholds.divergence_warning)
        if astray.any() and not is_adrift(layer, drift):
            most = float(drift.divergence[astray].max())
            text = f"{{n}} see another distribution than stored, up to {most:.3g} nats apart."
            yield on_channels(layer, astray, text, size=most)


RULE = Rule(
    "BN403", "channel-drift", Severity.WARNING, check, __doc__, thresholds=("divergence-warning",)
)
