"""Recalibrate submodules of a network, one after the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from bnfold.data import Data, SampleOptions
from bnfold.errors import UsageError
from bnfold.files import file_sha256, publish, scratch_folder
from bnfold.jobs.common import ModelInfo, check_target, check_unchanged
from bnfold.jobs.fold import Output
from bnfold.jobs.parts.names import ALL, data_for
from bnfold.jobs.recalibrate import recalibrate
from bnfold.jobs.recalibration_result import (
    DEFAULT_SAMPLES,
    Cost,
    RecalibrationOptions,
    RecalibrationResult,
)
from bnfold.progress import Progress, no_progress, of_part
from bnfold.recalibration.processes import are_several


def recalibrate_parts(
    parts: Any,
    target: Path | None,
    data: Data,
    *,
    options: RecalibrationOptions,
    sampling: SampleOptions | None = None,
    progress: Progress = no_progress,
) -> tuple[RecalibrationResult, Any]:
    """Measures submodules in the order of their calls, each on what reaches it behind those before.

    Args:
        parts: see `formats.torch.Parts`.
        target: the state dict of the whole network to write; None writes nothing.
        data: what the whole network runs on.
        options: as for `jobs.recalibrate`; names of layers are not chosen.
        sampling: which rows of the data to take.
        progress: called with the stage, and how much of how much is done.

    Returns:
        What was done, and a copy of the network; None where a check failed.

    Raises:
        UsageError: where a submodule is called more than once, or an option is for the whole.
        DataError: where the data does not fit the network.
        OutputError: where ``target`` must not or cannot be written.
    """
    _check(parts, target, data, options)
    taken = sampling or SampleOptions(samples=DEFAULT_SAMPLES)
    tensors: dict[str, Any] = {}
    reports: list[RecalibrationResult] = []
    with scratch_folder(target) as scratch:
        for name in parts.in_order_of_calls():
            written = scratch / "part.pth"
            report = recalibrate(
                parts.models[name],
                written,
                data_for(parts, name, data, taken, parts.with_tensors(tensors)),
                options=replace(options, force=True),
                sampling=ALL,
                progress=of_part(progress, name),
            )
            assert report is not None  # there is one process
            reports.append(_of_whole(report, name))
            if not report.ok:
                return _together(parts, reports[-1:], data, None), None
            tensors |= parts.changed(name, written)
        output, result = _written(parts, target, tensors, scratch)
    return _together(parts, reports, data, output), result


def _check(parts: Any, target: Path | None, data: Data, options: RecalibrationOptions) -> None:
    """Refuses what does not go with submodules, before anything is run."""
    if options.only or options.skip:
        raise UsageError("--only and --skip are for what is traced whole; name other submodules")
    if are_several():
        raise UsageError(
            "several processes share a network that is traced whole; start one process"
        )
    if target is not None:
        check_target(target, parts, data, force=options.force)
        parts.check_suffix(target)
    parts.check_called_once()


def _written(
    parts: Any, target: Path | None, tensors: Mapping[str, Any], scratch: Path
) -> tuple[Output, Any]:
    """The state dict of the whole, published where there is a ``target``; and the network with it."""
    made = scratch / ("network.pth" if target is None else target.name)
    parts.write(made, tensors)
    result = parts.read_back(made, tensors)
    check_unchanged(parts)
    output = Output(str(target or parts.path), file_sha256(made), size=made.stat().st_size)
    if target is not None:
        publish([made], target)
    return output, result


def _of_whole(report: RecalibrationResult, name: str) -> RecalibrationResult:
    return replace(
        report,
        batch_norms=tuple(replace(c, name=f"{name}.{c.name}") for c in report.batch_norms),
        untouched=tuple(replace(u, name=f"{name}.{u.name}") for u in report.untouched),
        outputs=tuple(replace(o, name=f"{name}: {o.name}") for o in report.outputs),
        check=replace(report.check, layer=f"{name}.{report.check.layer}"),
    )


def _together(
    parts: Any, reports: Sequence[RecalibrationResult], data: Data, output: Output | None
) -> RecalibrationResult:
    note = f"of {parts.path} the submodules {', '.join(parts.models)} were recalibrated"
    checks = [report.check for report in reports]
    costs = [report.cost for report in reports]
    cost = Cost(
        sum(each.levels for each in costs),
        max(each.memory for each in costs),
        max(each.disk for each in costs),
        sum(each.recomputed_batches for each in costs),
    )
    notes = dict.fromkeys(note for report in reports for note in report.notes)
    return replace(
        reports[0],
        model=ModelInfo.of(parts),
        data=str(data),
        cost=cost,
        batch_norms=tuple(change for report in reports for change in report.batch_norms),
        untouched=tuple(each for report in reports for each in report.untouched),
        outputs=tuple(change for report in reports for change in report.outputs),
        check=max(checks, key=lambda c: max(c.mean_error, c.variance_error) / c.tolerance),
        output=output,
        notes=(note, *parts.notes, *notes),
    )
