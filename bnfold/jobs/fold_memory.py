"""Fold a module or an exported program in memory: plan, edit, prove, return."""

from __future__ import annotations

from typing import Any

from bnfold.data import Data, SampleOptions
from bnfold.jobs.common import ModelInfo, comparison_inputs
from bnfold.jobs.fold import FoldResult, planned
from bnfold.jobs.fold_options import FoldOptions
from bnfold.progress import Progress, no_progress


def fold_in_memory(
    model: Any,
    network: Any,
    options: FoldOptions,
    *,
    data: Data | None = None,
    sampling: SampleOptions | None = None,
    progress: Progress = no_progress,
) -> tuple[FoldResult, Any]:
    """Folds every BatchNorm of ``network`` that can go exactly.

    Args:
        model: what was traced of it.
        network: what the caller gave, which is not changed.
        options: what is folded, and what has to be so that something is made.
        data: as for `jobs.fold`, as is ``sampling``.
        progress: called with the stage, and how much of how much is done.

    Returns:
        What was done, and what was made (its ``result`` is the folded network); None where
        ``options`` refused it.

    Raises:
        UsageError: where a program has no modules to keep.
        DataError: where ``data`` does not fit.
        RuntimeUnavailableError: where it does not run.
    """
    from bnfold.formats import format_of
    from bnfold.formats.torch import FoldInMemory

    progress("planning", 0, 1)
    plan = planned(model.graph, options)
    edited: Any = format_of(model).edit(model, plan, keep_modules=options.keep_modules)
    refusal = options.refusal(edited.plan)
    verification = outcome = None
    if refusal is None:
        outcome = FoldInMemory(network, edited)
        if options.verified:
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
