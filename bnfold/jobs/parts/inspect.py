"""Inspect submodules of a network, each by itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from bnfold.audit import Finding, Selection
from bnfold.data import Data, SampleOptions
from bnfold.jobs.common import ModelInfo
from bnfold.jobs.inspect import DEFAULT_SAMPLES, Inspection, NormReport, inspect
from bnfold.jobs.parts.names import ALL, data_for, joined, prefixed
from bnfold.planning import Decision
from bnfold.progress import Progress, no_progress, of_part
from bnfold.recalibration.observer import RuntimeOptions


def inspect_parts(
    parts: Any,
    *,
    reparameterize: bool = False,
    selection: Selection | None = None,
    data: Data | None = None,
    sampling: SampleOptions | None = None,
    runtime: RuntimeOptions | None = None,
    progress: Progress | None = None,
) -> Inspection:
    """One report on submodules of a network, layers under their names in the whole.

    Args:
        parts: see `formats.torch.Parts`.
        reparameterize: as for `jobs.inspect`, as are the others.
        data: what the whole network runs on; its submodules are held against what reaches them.

    Raises:
        UsageError: where the data is masked.
        DataError: where the data does not fit the network.
        RuntimeUnavailableError: where a submodule does not run.
    """
    taken = sampling or SampleOptions(samples=DEFAULT_SAMPLES)
    reports: list[Inspection] = []
    for name, model in parts.models.items():
        found = inspect(
            model,
            reparameterize=reparameterize,
            selection=selection,
            data=None if data is None else data_for(parts, name, data, taken),
            sampling=ALL,
            runtime=runtime,
            progress=of_part(progress or no_progress, name),
        )
        reports.append(_of_whole(found, name))
    return _together(parts, reports, data)


def _of_whole(report: Inspection, name: str) -> Inspection:
    def layer(norm: NormReport) -> NormReport:
        return replace(norm, name=f"{name}.{norm.name}", decision=decided(norm.decision))

    def decided(decision: Decision | None) -> Decision | None:
        return None if decision is None else by_name[f"{name}.{decision.name}"]

    def finding(each: Finding) -> Finding:
        return replace(each, layer=name if each.layer is None else f"{name}.{each.layer}")

    plan = prefixed(report.plan, name)
    by_name = {decision.name: decision for decision in plan.decisions}
    return replace(
        report,
        plan=plan,
        batch_norms=tuple(map(layer, report.batch_norms)),
        findings=tuple(map(finding, report.findings)),
        suppressed=tuple(replace(s, finding=finding(s.finding)) for s in report.suppressed),
    )


def _together(parts: Any, reports: Sequence[Inspection], data: Data | None) -> Inspection:
    note = f"of {parts.path} the submodules {', '.join(parts.models)} were inspected"
    plan = joined([report.plan for report in reports], (note, *parts.notes))
    notes = dict.fromkeys(note for report in reports for note in report.notes)
    return replace(
        reports[0],
        model=ModelInfo.of(parts),
        batch_norms=tuple(norm for report in reports for norm in report.batch_norms),
        plan=plan,
        findings=tuple(finding for report in reports for finding in report.findings),
        suppressed=tuple(each for report in reports for each in report.suppressed),
        notes=(note, *parts.notes, *notes),
        data=None if data is None else str(data),
    )
