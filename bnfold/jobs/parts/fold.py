"""Fold submodules of a network, each by itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from bnfold.data import SampleOptions
from bnfold.errors import ModelError, UsageError
from bnfold.files import file_sha256, publish, scratch_folder
from bnfold.jobs.common import ModelInfo, check_target, check_unchanged
from bnfold.jobs.fold import FoldResult, Output
from bnfold.jobs.fold_memory import fold_in_memory
from bnfold.jobs.fold_options import FoldOptions
from bnfold.jobs.parts.names import joined, prefixed, proof_of_whole, proofs_together
from bnfold.planning import Rest
from bnfold.progress import Progress, no_progress, of_part

_ELSEWHERE = (
    "the submodules compute the same by themselves, yet the whole network does not; some code reads "
    "their weights: name others with submodule="
)
_WHOLE = "--only, --skip and --rest are for what is traced whole; leave them out"


def fold_parts(
    parts: Any,
    target: Path | None,
    options: FoldOptions,
    *,
    sampling: SampleOptions | None = None,
    progress: Progress = no_progress,
) -> tuple[FoldResult, Any]:
    """Folds submodules of a network, each by itself; the network as a whole need not be traced.

    Args:
        parts: see `formats.torch.Parts`.
        target: the state dict of the whole network to write; None writes nothing.
        options: what is folded, and what has to be so that something is made.
        sampling: as for `jobs.fold`.
        progress: called with the stage, and how much of how much is done.

    Returns:
        What was done, and a copy of the network; None where ``options`` refused it.

    Raises:
        UsageError: where one of ``options`` is for what is traced whole.
        DataError: where inputs for a submodule cannot be made up.
        OutputError: where ``target`` must not or cannot be written.
        RuntimeUnavailableError: where one does not run.
    """
    if options.only or options.skip or options.rest is not Rest.KEEP:
        raise UsageError(_WHOLE)
    if target is not None:
        check_target(target, parts, force=options.force)
    tensors, reports = _folded(parts, sampling, options, progress)
    report = _together(parts, reports)
    if (refusal := options.refusal(report.plan)) is not None:
        return replace(report, refusal=refusal), None
    if target is None:
        result = parts.with_tensors(tensors)
        return _compared(parts, report, result), result
    progress("writing", 0, 1)
    with scratch_folder(target) as scratch:
        written = scratch / target.name
        parts.write(written, tensors)
        result = parts.read_back(written, tensors)
        report = _compared(parts, report, result)
        if not report.ok:
            return report, None
        info = check_unchanged(parts)
        publish([written], target)
    key_map = {"changed": sorted(tensors), "added": [], "removed": []}
    output = Output(str(target), file_sha256(target), key_map)
    return replace(report, model=info, output=output), result


def _folded(
    parts: Any, sampling: SampleOptions | None, options: FoldOptions, progress: Progress
) -> tuple[dict[str, Any], list[FoldResult]]:
    """What changes in the whole network's tensors, and what was done to each part."""
    tensors: dict[str, Any] = {}
    reports: list[FoldResult] = []
    each = replace(options, keep_modules=True, strict=False, minimum=None)  # asked of the whole
    for name, model in parts.models.items():
        report, outcome = fold_in_memory(
            model,
            parts.modules[name],
            each,
            sampling=sampling,
            progress=of_part(progress, name),
        )
        changed = outcome.changed
        if parts.is_shared(name, list(changed)):
            parts.notes.append(f"{name} is not taken: it shares a tensor with another module")
            continue
        tensors |= {f"{name}.{leaf}": tensor for leaf, tensor in changed.items()}
        reports.append(_of_whole(report, name))
    if not reports:
        raise ModelError(f"no submodule can be folded: {parts.notes[-1]}")
    return tensors, reports


def _compared(parts: Any, report: FoldResult, result: Any) -> FoldResult:
    """``report``, with what the network as a whole says of it."""
    proof = report.verification
    if proof is None or not report.ok or parts.computes_the_same(result):
        return report
    return replace(report, verification=replace(proof, problem=_ELSEWHERE))


def _together(parts: Any, reports: Sequence[FoldResult]) -> FoldResult:
    """One report for all parts."""
    proofs = [report.verification for report in reports if report.verification is not None]
    verification = proofs_together(proofs) if proofs else None
    names = ", ".join(parts.models)
    why = "" if parts.chosen else "torch.export cannot trace the whole network: "
    note = f"{why}of {parts.path} the submodules {names} were folded, each by itself"
    plan = joined([report.plan for report in reports], (note, *parts.notes))
    info = ModelInfo.of(parts)
    left, before, after = (
        sum(numbers)
        for numbers in zip(
            *((r.batch_norms_left, r.nodes_before, r.nodes_after) for r in reports), strict=True
        )
    )
    return FoldResult(info, plan, verification, None, left, before, after)


def _of_whole(report: FoldResult, name: str) -> FoldResult:
    """The report on a part, under the names that its layers have in the whole."""
    proof = report.verification
    return replace(
        report,
        plan=prefixed(report.plan, name),
        verification=None if proof is None else proof_of_whole(proof, name),
    )
