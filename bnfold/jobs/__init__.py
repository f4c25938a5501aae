"""The jobs that bnfold does: each takes a model and returns one frozen result; none prints."""

from bnfold.jobs.fold import FoldResult, fold
from bnfold.jobs.inspect import Inspection, NormReport, inspect
from bnfold.jobs.verify import VerifyResult, verify

__all__ = [
    "FoldResult",
    "Inspection",
    "NormReport",
    "VerifyResult",
    "fold",
    "inspect",
    "verify",
]
