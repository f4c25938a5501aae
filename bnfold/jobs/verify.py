"""Verify: the comparison that `fold` makes, for any two models of the same signature."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bnfold.data import InputSpec, SampleOptions
from bnfold.errors import UsageError
from bnfold.formats import Model, format_of
from bnfold.jobs.common import FORMAT_VERSION, ModelInfo, comparison_inputs
from bnfold.proof.verification import Verification
from bnfold.proof.verification import verify as compare


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


def verify(
    reference: Model,
    candidate: Model,
    *,
    data: str | Path | None = None,
    sampling: SampleOptions | None = None,
) -> VerifyResult:
    """Compares two models on the same inputs, the reference's own rounding as the yardstick.

    Args:
        reference: the model to trust.
        candidate: the other.
        data: a sample; None makes inputs from the signature.
        sampling: which rows of it to take; 64 at most by default.

    Raises:
        UsageError: where their inputs or outputs differ in name.
        DataError: where ``data`` does not fit.
        RuntimeUnavailableError: where one of them does not run.
    """
    _check_signatures(reference, candidate)
    feeds, inputs = comparison_inputs(reference, data, sampling)
    theirs = format_of(candidate).runs(candidate)
    outcome = compare(format_of(reference).runs(reference), theirs, feeds, inputs)
    return VerifyResult(ModelInfo.of(reference), ModelInfo.of(candidate), outcome)


def _check_signatures(reference: Model, candidate: Model) -> None:
    theirs = {spec.name: spec for spec in candidate.inputs}
    same_names = sorted(theirs) == sorted(spec.name for spec in reference.inputs)
    if not same_names or not all(_agree(spec, theirs[spec.name]) for spec in reference.inputs):
        described = (
            "; ".join(spec.describe() for spec in model.inputs) for model in (reference, candidate)
        )
        raise UsageError(
            f"the models take different inputs ({' and '.join(described)}); "
            "only models with the same signature can be compared"
        )


def _agree(a: InputSpec, b: InputSpec) -> bool:
    """Whether some array fits both."""
    if a.dtype != b.dtype:
        return False
    if a.shape is None or b.shape is None:
        return True
    return len(a.shape) == len(b.shape) and all(
        None in (m, n) or m == n for m, n in zip(a.shape, b.shape, strict=True)
    )
