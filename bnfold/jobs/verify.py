"""Verify: the comparison that `fold` makes, for any two models of the same signature."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from bnfold.data import Data, InputSpec, SampleOptions
from bnfold.errors import UsageError
from bnfold.formats import Model, format_of
from bnfold.jobs.common import (
    FORMAT_VERSION,
    UNDECIDED,
    ModelInfo,
    comparison_inputs,
)
from bnfold.progress import Progress, no_progress
from bnfold.proof.bounds import Bounds
from bnfold.proof.subject import Arrays, Runs
from bnfold.proof.verification import Verification
from bnfold.proof.verification import verify as compare
from bnfold.recalibration.observer import CPU_DEVICE, CPU_PROVIDER, RuntimeOptions


@dataclass(frozen=True)
class VerifyResult:
    """Both models and the outcome."""

    reference: ModelInfo
    candidate: ModelInfo
    verification: Verification

    @property
    def ok(self) -> bool:
        return self.verification.passed

    @property
    def model(self) -> ModelInfo:
        """What the report is about: the one that the other is compared with."""
        return self.reference

    @property
    def warnings(self) -> tuple[str, ...]:
        """What nobody should overlook."""
        return () if self.verification.decided else (UNDECIDED,)

    def to_json(self) -> dict[str, Any]:
        return {
            "format_version": FORMAT_VERSION,
            "command": "verify",
            "reference": self.reference.to_json(),
            "candidate": self.candidate.to_json(),
            **self.verification.to_json(),
            "warnings": list(self.warnings),
        }


def verify(
    reference: Model,
    candidate: Model,
    *,
    data: Data | None = None,
    sampling: SampleOptions | None = None,
    bounds: Bounds | None = None,
    runtime: RuntimeOptions | None = None,
    progress: Progress = no_progress,
) -> VerifyResult:
    """Compares two models on the same inputs, the reference's own rounding as the yardstick.

    Args:
        reference: the model to trust.
        candidate: the other.
        data: a sample; None makes inputs from the signature.
        sampling: which rows of it to take; 64 at most by default.
        bounds: what the outputs have to keep to, in place of that yardstick.
        runtime: how they run; each model takes what is for its kind.
        progress: called with the stage, and how much of how much is done.

    Raises:
        UsageError: where their inputs or outputs differ in name.
        DataError: where ``data`` does not fit.
        RuntimeUnavailableError: where one of them does not run.
    """
    _check_signatures(reference, candidate)
    ours, theirs = (format_of(m).runs(m, _own(runtime, m)) for m in (reference, candidate))
    progress("reading the inputs" if data is not None else "making inputs", 0, 1)
    feeds, inputs = comparison_inputs(reference, data, sampling)
    other: Runs = theirs
    if reference.format != candidate.format:
        other = _ByPosition(theirs, list(ours.outputs(feeds[0])))
    outcome = compare(ours, other, feeds, inputs, bounds, progress)
    return VerifyResult(ModelInfo.of(reference), ModelInfo.of(candidate), outcome)


def _own(options: RuntimeOptions | None, model: Model) -> RuntimeOptions | None:
    """What of ``options`` is for this kind of model, where two kinds are compared."""
    if options is None:
        return None
    if model.format == "onnx":
        return replace(options, device=CPU_DEVICE)
    return replace(options, provider=CPU_PROVIDER)


class _ByPosition:
    """A model of another format, its outputs under the reference's names: every format has names
    of its own for outputs that their author gave none."""

    def __init__(self, model: Runs, names: Sequence[str]) -> None:
        self._model, self._names = model, names
        self.runtime = model.runtime

    def outputs(self, feeds: Arrays) -> Arrays:
        found = self._model.outputs(feeds)
        if set(found) == set(self._names):
            return found
        if len(found) != len(self._names):
            raise UsageError(
                f"the models return {len(self._names)} and {len(found)} outputs; "
                "only models with the same signature can be compared"
            )
        return dict(zip(self._names, found.values(), strict=True))

    def release(self) -> None:
        self._model.release()


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
