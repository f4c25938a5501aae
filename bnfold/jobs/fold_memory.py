"""Fold a module or an exported program in memory: plan, edit, prove, return."""

from __future__ import annotations

from typing import Any

from bnfold.data import Data, SampleOptions
from bnfold.jobs.common import ModelInfo, comparison_inputs
from bnfold.jobs.fold import FoldResult, planned
from bnfold.jobs.fold_options import FoldOptions
from bnfold.planning import Rest
from bnfold.progress import Progress, no_progress


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
    only: tuple[str, ...] = (),
    skip: tuple[str, ...] = (),
    rest: Rest = Rest.KEEP,
    progress: Progress = no_progress,
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
    report, outcome = folded_network(
        model,
        network,
        data,
        sampling,
        verified,
        strict,
        reparameterize,
        keep_modules,
        only,
        skip,
        rest,
        progress,
    )
    return report, None if outcome is None else outcome.result


def folded_network(
    model: Any,
    network: Any,
    data: Data | None,
    sampling: SampleOptions | None,
    verified: bool,
    strict: bool,
    reparameterize: bool,
    keep_modules: bool,
    only: tuple[str, ...] = (),
    skip: tuple[str, ...] = (),
    rest: Rest = Rest.KEEP,
    progress: Progress = no_progress,
) -> tuple[FoldResult, Any]:
    """`fold_in_memory` with the outcome itself beside what was done."""
    from bnfold.formats import format_of
    from bnfold.formats.torch import FoldInMemory

    options = FoldOptions(
        reparameterize=reparameterize, keep_modules=keep_modules, only=only, skip=skip, rest=rest
    )
    progress("planning", 0, 1)
    plan = planned(model.graph, options)
    edited: Any = format_of(model).edit(model, plan, keep_modules=keep_modules)
    refusal = FoldOptions(strict=strict).refusal(edited.plan)
    verification = outcome = None
    if refusal is None:
        outcome = FoldInMemory(network, edited)
        if verified:
            progress("reading the inputs" if data is not None else "making inputs", 0, 1)
            feeds, inputs = comparison_inputs(model, data, sampling)
            verification = outcome.verified(feeds, inputs, progress)
    report = FoldResult(
        ModelInfo.of(model),
        edited.plan,
        verification,
        None,
        edited.batch_norm_count,
        model.node_count,
        edited.node_count,
        refusal,
    )
    return report, outcome
