"""BatchNorm is in training mode in the file.

What it does
------------
Reports layers that normalise with the statistics of each batch instead of their stored ones, or
that hand those statistics on.

Why it matters
--------------
The answer to one image depends on the other images of its batch, and with a batch of one it is
often useless. Nothing can be folded, because there is no fixed map. The file was exported while the
network was in training mode.

What to do
----------
Call `model.eval()` before the export, and export with `training=TrainingMode.EVAL` (PyTorch), the
default there. `TrainingMode.PRESERVE` after `model.eval()` keeps the layers for bnfold to fold.
"""

from __future__ import annotations

from bnfold.audit.finding import Severity
from bnfold.audit.rule import Rule, kept_for
from bnfold.planning.reasons import Reason

REASONS = (Reason.TRAINING_MODE, Reason.STATISTICS_IN_USE)
RULE = Rule("BN201", "training-mode", Severity.ERROR, kept_for(*REASONS), __doc__, reasons=REASONS)
