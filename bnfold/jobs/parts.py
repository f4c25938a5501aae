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
from bnfold.planning import Decision, Plan, Rest
from bnfold.proof.congruence import Congruence
from bnfold.proof.verification import Verification

_WHOLE = "--only, --skip and --rest are for what is traced whole; leave them out"


def fold_parts(
    parts: Any,
    target: Path | None,
    options: FoldOptions,
    *,
    sampling: SampleOptions | None = None,
) -> tuple[FoldResult, Any]:
    """Folds submodules of a network, each by itself; the network as a whole need not be traced.

    Args:
        parts: see `formats.torch.Parts`.
        target: the state dict of the whole network to write; None writes nothing.
        options: what is folded, and what has to be so that something is made.
        sampling: as for `jobs.fold`.

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
    tensors, reports = _folded(parts, sampling, options)
    report = _together(parts, reports)
    if (refusal := options.refusal(report.plan)) is not None:
        return replace(report, refusal=refusal), None
    if target is None:
        result = parts.with_tensors(tensors)
        return _compared(parts, report, result), result
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
    parts: Any, sampling: SampleOptions | None, options: FoldOptions
) -> tuple[dict[str, Any], list[FoldResult]]:
    """What changes in the whole network's tensors, and what was done to each part."""
    tensors: dict[str, Any] = {}
    reports: list[FoldResult] = []
    each = replace(options, keep_modules=True, strict=False, minimum=None)  # asked of the whole
    for name, model in parts.models.items():
        report, outcome = fold_in_memory(model, parts.modules[name], each, sampling=sampling)
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
    if proof is None or not report.ok:
        return report
    problem = parts.difference(result)
    if problem is not None:
        return replace(report, verification=replace(proof, problem=problem))
    if not parts.undecided:
        return report
    plan = replace(report.plan, notes=(*report.plan.notes, _undecided(parts.undecided)))
    return replace(report, plan=plan)


def _undecided(count: int) -> str:
    what = "1 output of the whole network changes" if count == 1 else f"{count} outputs change"
    return f"{what} under rounding alone and could not be compared; the submodules were"


def _together(parts: Any, reports: Sequence[FoldResult]) -> FoldResult:
    """One report for all parts."""
    plans = [report.plan for report in reports]
    proofs = [report.verification for report in reports if report.verification is not None]
    verification = None
    if proofs:
        verification = replace(
            proofs[0],
            inputs=f"{proofs[0].inputs}, each submodule by itself",
            outputs=tuple(output for proof in proofs for output in proof.outputs),
            congruence=_congruence(proofs),
            pieces=tuple(piece for proof in proofs for piece in proof.pieces or ()),
            problem=next((proof.problem for proof in proofs if proof.problem), None),
        )
    names = ", ".join(parts.models)
    why = "" if parts.chosen else "torch.export cannot trace the whole network: "
    note = f"{why}of {parts.path} the submodules {names} were folded, each by itself"
    own = dict.fromkeys(note for plan in plans for note in plan.notes)
    plan = Plan(
        tuple(decision for plan in plans for decision in plan.decisions),
        tuple(edit for plan in plans for edit in plan.edits),
        tuple(region for plan in plans for region in plan.regions),
        (note, *parts.notes, *own),
    )
    info = ModelInfo.of(parts)
    left, before, after = (
        sum(numbers)
        for numbers in zip(
            *((r.batch_norms_left, r.nodes_before, r.nodes_after) for r in reports), strict=True
        )
    )
    return FoldResult(info, plan, verification, None, left, before, after)


def _congruence(proofs: Sequence[Verification]) -> Congruence:
    parts = [proof.congruence for proof in proofs if proof.congruence is not None]
    return Congruence(
        sum(part.calls for part in parts),
        sum(part.tensors for part in parts),
        sum(part.changed_tensors for part in parts),
        tuple(difference for part in parts for difference in part.differences),
    )


def _of_whole(report: FoldResult, name: str) -> FoldResult:
    """The report on a part, under the names that its layers have in the whole."""
    plan, proof = _prefixed(report.plan, name), report.verification
    if proof is not None:
        outputs = tuple(replace(o, name=f"{name}: {o.name}") for o in proof.outputs)
        pieces = tuple(replace(p, name=f"{name}.{p.name}") for p in proof.pieces or ())
        proof = replace(proof, outputs=outputs, pieces=pieces)
    return replace(report, plan=plan, verification=proof)


def _prefixed(plan: Plan, name: str) -> Plan:
    def whole(decision: Decision) -> Decision:
        into = tuple(f"{name}.{layer}" for layer in decision.into)
        return replace(decision, name=f"{name}.{decision.name}", into=into)

    return replace(plan, decisions=tuple(map(whole, plan.decisions)))
