"""Fold a module or an exported program in memory: plan, edit, prove, return."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from bnfold.data import Data, SampleOptions
from bnfold.errors import ModelError, VerificationError
from bnfold.jobs.common import ModelInfo, comparison_inputs
from bnfold.jobs.fold import FoldResult, check_rest
from bnfold.planning import Decision, Plan, Rest, make_plan
from bnfold.proof.congruence import Congruence
from bnfold.proof.verification import Verification


def fold_in_memory(
    model: Any,
    network: Any,
    *,
    data: Data | None = None,
    sampling: SampleOptions | None = None,
    verified: bool = True,
    strict: bool = False,
    reparameterize: bool = False,
    keep_modules: bool = False,
    rest: Rest = Rest.KEEP,
) -> tuple[FoldResult, Any]:
    """Folds every BatchNorm of ``network`` that can go exactly.

    Args:
        model: what was traced of it.
        network: what the caller gave, which is not changed.
        data: as for `jobs.fold`, as are the others.

    Returns:
        What was done, and the folded network; None where ``strict`` refused it.

    Raises:
        UsageError: where a program has no modules to keep.
        DataError: where ``data`` does not fit.
        RuntimeUnavailableError: where it does not run.
    """
    report, outcome = _folded(
        model, network, data, sampling, verified, strict, reparameterize, keep_modules, rest
    )
    return report, None if outcome is None else outcome.result


def _folded(
    model: Any,
    network: Any,
    data: Data | None,
    sampling: SampleOptions | None,
    verified: bool,
    strict: bool,
    reparameterize: bool,
    keep_modules: bool,
    rest: Rest = Rest.KEEP,
) -> tuple[FoldResult, Any]:
    from bnfold.formats import format_of
    from bnfold.formats.torch import FoldInMemory

    check_rest(rest, keep_modules)
    plan = make_plan(model.graph, reparameterize=reparameterize, rest=rest)
    edited: Any = format_of(model).edit(model, plan, keep_modules=keep_modules)
    refused = strict and edited.plan.kept > 0
    verification = outcome = None
    if not refused:
        outcome = FoldInMemory(network, edited)
        if verified:
            feeds, inputs = comparison_inputs(model, data, sampling)
            verification = outcome.verified(feeds, inputs)
    report = FoldResult(
        ModelInfo.of(model),
        edited.plan,
        verification,
        None,
        edited.batch_norm_count,
        model.node_count,
        edited.node_count,
        refused,
    )
    return report, outcome


def fold_parts(
    parts: Any,
    *,
    sampling: SampleOptions | None = None,
    verified: bool = True,
    strict: bool = False,
    reparameterize: bool = False,
) -> tuple[FoldResult, Any]:
    """Folds the submodules of a network that cannot be traced whole, each by itself.

    Args:
        parts: see `formats.torch.Parts`.
        sampling: as for `jobs.fold`, as are the others.

    Returns:
        What was done, and a copy of the network; None where ``strict`` refused it.

    Raises:
        DataError: where inputs for a submodule cannot be made up.
        RuntimeUnavailableError: where one does not run.
    """
    tensors: dict[str, Any] = {}
    reports: list[FoldResult] = []
    for name, model in parts.models.items():
        report, outcome = _folded(
            model, parts.modules[name], None, sampling, verified, False, reparameterize, True
        )
        changed = outcome.changed
        if parts.is_shared(name, list(changed)):
            parts.notes.append(f"{name} is not taken: it shares a tensor with another module")
            continue
        tensors |= {f"{name}.{leaf}": tensor for leaf, tensor in changed.items()}
        reports.append(replace(report, plan=_prefixed(report.plan, name)))
    if not reports:
        raise ModelError(f"no submodule can be folded: {parts.notes[-1]}")
    result = parts.with_tensors(tensors)
    report = _together(parts, reports)
    if strict and report.plan.kept:
        return replace(report, refused_by_strict=True), None
    if verified and report.ok and not parts.computes_the_same(result):
        raise VerificationError(
            "the submodules compute the same by themselves, yet the whole network does not; some "
            "code reads their weights: name others with submodule="
        )
    return report, result


def _together(parts: Any, reports: Sequence[FoldResult]) -> FoldResult:
    """One report for all parts."""
    from bnfold.formats.torch import digest_of

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
    note = f"torch.export cannot trace the whole network; what traces was folded: {names}"
    own = dict.fromkeys(note for plan in plans for note in plan.notes)
    plan = Plan(
        tuple(decision for plan in plans for decision in plan.decisions),
        tuple(edit for plan in plans for edit in plan.edits),
        tuple(region for plan in plans for region in plan.regions),
        (note, *parts.notes, *own),
    )
    network = parts.network
    info = ModelInfo(type(network).__name__, "torch", digest_of(network.state_dict()))
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


def _prefixed(plan: Plan, name: str) -> Plan:
    """The decisions of a part under the names that its layers have in the whole."""

    def whole(decision: Decision) -> Decision:
        into = tuple(f"{name}.{layer}" for layer in decision.into)
        return replace(decision, name=f"{name}.{decision.name}", into=into)

    return replace(plan, decisions=tuple(map(whole, plan.decisions)))
