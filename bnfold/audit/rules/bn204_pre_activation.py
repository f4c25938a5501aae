"""A BatchNorm of a pre-activation block cannot be folded.

What it does
------------
Reports layers that read a sum or a concatenation (which others read too) and feed an activation:
the BN → ReLU → convolution order of ResNet v2 and DenseNet.

Why it matters
--------------
Behind it stands a non-linearity, before it a value that the skip connection needs as it is: no
exact fold exists. The layer costs a pass over memory. Its result is right.

What to do
----------
Nothing for this file; runtimes can still fuse it with the activation. Where speed decides, choose a
post-activation architecture, in which every BatchNorm folds.
"""

from __future__ import annotations

from bnfold.audit.finding import Severity
from bnfold.audit.rule import Rule
from bnfold.audit.structure import PRE_ACTIVATION, situation

RULE = Rule("BN204", PRE_ACTIVATION, Severity.INFO, situation(PRE_ACTIVATION), __doc__)
