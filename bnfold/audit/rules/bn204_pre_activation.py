"""A BatchNorm of a pre-activation block stays.

What it does
------------
Reports layers that read a sum or a concatenation (which others read too) and feed an activation:
the BN → ReLU → convolution order of ResNet v2 and DenseNet.

Why it matters
--------------
Most of them fold: for s > 0, relu(s x + t) = s relu(x + t/s), so that the scale goes into the next
convolution and the offset along the trunk into the biases of what is added there. This one does
not: some scales are negative, another reader needs another shift of the same values, or an operator
that allows neither reads them. The reason says which. The layer costs a pass over memory. Its
result is right.

What to do
----------
Nothing for this file; runtimes can still fuse it with the activation. Where few channels block, a
training run that keeps the scales positive (an absolute value, or a penalty) frees the layer. Where
speed decides, choose a post-activation architecture, in which every BatchNorm folds.
"""

from __future__ import annotations

from bnfold.audit.finding import Severity
from bnfold.audit.rule import Rule
from bnfold.audit.structure import PRE_ACTIVATION, situation

RULE = Rule("BN204", PRE_ACTIVATION, Severity.INFO, situation(PRE_ACTIVATION), __doc__)
