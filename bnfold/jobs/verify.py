"""Verify: the comparison that `fold` makes, for any two models of the same signature."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bnfold.errors import UsageError
from bnfold.formats import Model
from bnfold.jobs.common import FORMAT_VERSION, ModelInfo, comparison_inputs, scratch_folder
from bnfold.verification import Verification
from bnfold.verification import verify as compare


@dataclass(frozen=True)
class VerifyResult:
    """Both models and the outcome."""

    reference: ModelInfo
    candidate: ModelInfo
    verification: Verification

    @property
    def ok(self) -> bool:
        return self.verification.passed

    def to_json(self) -> dict[str, Any]:
        return {
            "format_version": FORMAT_VERSION,
            "command": "verify",
            "reference": self.reference.to_json(),
            "candidate": self.candidate.to_json(),
            **self.verification.to_json(),
        }


def verify(reference: Model, candidate: Model, *, data: str | Path | None = None) -> VerifyResult:
    """Compares two models on the same inputs, the reference's own rounding as the yardstick.

    Raises:
        UsageError: where their inputs or outputs differ in name.
        DataError: where ``data`` does not fit.
        RuntimeUnavailableError: where one of them does not run.
    """
    ours, theirs = ([s.name for s in m.inputs] for m in (reference, candidate))
    if sorted(ours) != sorted(theirs):
        raise UsageError(
            f"the models take different inputs ({', '.join(ours)} and {', '.join(theirs)}); "
            "only models with the same signature can be compared"
        )
    feeds, inputs = comparison_inputs(reference, data)
    with scratch_folder() as scratch:
        bench = reference.comparison(candidate, scratch)
        outcome = compare(bench, feeds, lambda: None, inputs)
    return VerifyResult(ModelInfo.of(reference), ModelInfo.of(candidate), outcome)
