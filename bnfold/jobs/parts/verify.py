"""Compare the submodules of two networks, each by itself."""

from __future__ import annotations

from typing import Any

from bnfold.data import Data, SampleOptions
from bnfold.jobs.common import DEFAULT_SAMPLES, ModelInfo
from bnfold.jobs.parts.names import ALL, data_for, proof_of_whole, proofs_together
from bnfold.jobs.verify import VerifyResult, verify
from bnfold.progress import Progress, no_progress, of_part
from bnfold.proof.bounds import Bounds
from bnfold.proof.verification import Verification
from bnfold.recalibration.observer import RuntimeOptions


def verify_parts(
    reference: Any,
    candidate: Any,
    *,
    data: Data | None = None,
    sampling: SampleOptions | None = None,
    bounds: Bounds | None = None,
    runtime: RuntimeOptions | None = None,
    progress: Progress = no_progress,
) -> VerifyResult:
    """Compares submodules of the same names, on what reaches them in the reference.

    Args:
        reference: see `formats.torch.Parts`.
        candidate: the same submodules of another network.
        data: what the reference as a whole runs on; as for `jobs.verify`, as are the others.

    Raises:
        UsageError: where their inputs or outputs differ, or the data is masked.
        DataError: where the data does not fit the reference.
        ModelError: where the candidate has no such submodule that traces.
        RuntimeUnavailableError: where one of them does not run.
    """
    candidate.check_models(reference.models)
    taken = sampling or SampleOptions(samples=DEFAULT_SAMPLES)
    proofs: list[Verification] = []
    for name, model in reference.models.items():
        found = verify(
            model,
            candidate.models[name],
            data=None if data is None else data_for(reference, name, data, taken),
            sampling=ALL,
            bounds=bounds,
            runtime=runtime,
            progress=of_part(progress, name),
        )
        proofs.append(proof_of_whole(found.verification, name))
    ours, theirs = ModelInfo.of(reference), ModelInfo.of(candidate)
    return VerifyResult(ours, theirs, proofs_together(proofs))
