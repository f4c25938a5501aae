"""Callers of the model may replace the parameters of its BatchNorm.

What it does
------------
Reports models of ONNX IR 4 and later whose initializers are graph inputs as well, where a
BatchNorm or the layer next to it reads them.

Why it matters
--------------
Such an initializer is a default value that every caller may override, so neither onnxruntime nor
bnfold may fold it: the model runs with all its BatchNorm, slower than it could. It is the way of
older exporters (PyTorch up to 1.3, `keep_initializers_as_inputs`, MXNet), hardly ever meant.

What to do
----------
If no caller of yours replaces weights, give `--freeze-initializers` to `bnfold inspect` and
`bnfold fold`. Nothing else about the inputs changes.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from bnfold.audit.finding import Severity
from bnfold.audit.rule import Hit, Rule
from bnfold.planning.reasons import Reason

if TYPE_CHECKING:
    from bnfold.audit.subject import Subject

REASONS = (Reason.OVERRIDABLE_INITIALIZER,)


def check(subject: Subject) -> Iterable[Hit]:
    concerned = [layer for layer in subject.layers if layer.reason in REASONS]
    if concerned:
        yield Hit(
            f"{len(concerned)} of {len(subject.layers)} BatchNorm cannot be folded, because their "
            "parameters or weights are graph inputs that a caller may override.",
            size=len(concerned),
        )


RULE = Rule("BN202", "overridable-parameters", Severity.WARNING, check, __doc__, reasons=REASONS)
