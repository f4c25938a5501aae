"""The layer behind a BatchNorm pads with zeros.

What it does
------------
Reports layers that could go forward into the next convolution or pool, but for its zero padding.

Why it matters
--------------
At the border that layer reads zeros where the shift of the BatchNorm would have to be: the fold is
right inside and wrong along the edge (by 0.118 in a measured case). Tools that fold it anyway
change the output.

What to do
----------
Nothing for this file. When the network is designed anew, put BatchNorm behind the convolution, or
pad before the BatchNorm.
"""

from __future__ import annotations

from bnfold.audit.finding import Severity
from bnfold.audit.rule import Rule
from bnfold.audit.structure import BORDER_REASONS, BORDERS, situation

RULE = Rule("BN206", BORDERS, Severity.INFO, situation(BORDERS), __doc__, reasons=BORDER_REASONS)
