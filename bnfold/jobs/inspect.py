"""Inspect: every BatchNorm of a model, its statistics, and what can become of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from bnfold.algebra.affine import Array
from bnfold.audit import Drift, Finding, Observed, Selection, Suppressed, run_rules, tally
from bnfold.audit.baseline import Baseline
from bnfold.audit.chains import chains
from bnfold.audit.thresholds import Thresholds
from bnfold.data import Data, SampleOptions, open_sample
from bnfold.files import scratch_folder
from bnfold.formats import Model, format_of
from bnfold.graph import Node
from bnfold.jobs.against import Against, against
from bnfold.jobs.common import FORMAT_VERSION, ModelInfo, notes_of
from bnfold.kinds import Norm
from bnfold.planning import Decision, Plan, Reason, make_plan
from bnfold.progress import Progress, no_progress
from bnfold.recalibration.observer import RuntimeOptions

DEFAULT_SAMPLES = 512


@dataclass(frozen=True)
class Range:
    """Smallest and largest finite value; None where there is none."""

    min: float | None
    max: float | None

    @classmethod
    def of(cls, array: Array) -> Range:
        finite = array[np.isfinite(array)]
        if not finite.size:
            return cls(None, None)
        return cls(float(finite.min()), float(finite.max()))

    def to_json(self) -> dict[str, float | None]:
        return {"min": self.min, "max": self.max}


@dataclass(frozen=True)
class NormReport:
    """One BatchNorm: settings, ranges of its parameters, and its predicted decision.

    ``epsilon`` and ``momentum`` are None where the file does not say; ``momentum`` is the file's
    own number, which PyTorch and ONNX count in opposite ways. ``decision`` is None where nobody
    can tell: a checkpoint has no graph. ``norm`` and ``observed`` are the arrays that the ranges
    and the drift come from.
    """

    name: str
    channels: int
    epsilon: float | None
    momentum: float | None
    mean: Range
    variance: Range
    scale: Range
    shift: Range
    decision: Decision | None
    norm: Norm = field(repr=False, compare=False)
    observed: Observed | None = field(default=None, repr=False, compare=False)

    @property
    def drift(self) -> Drift | None:
        """Stored against observed, None without data."""
        if self.observed is None or self.observed.mean.shape != self.norm.mean.shape:
            return None
        return Drift.of(self.norm, self.observed)

    @classmethod
    def of(
        cls,
        node: Node,
        decision: Decision | None,
        format: str,
        observed: Observed | None = None,
    ) -> NormReport:
        kind = node.kind
        assert isinstance(kind, Norm)
        return cls(
            node.name,
            kind.channels,
            kind.epsilon,
            _own_momentum(kind, format),
            Range.of(kind.mean),
            Range.of(kind.variance),
            Range.of(kind.scale),
            Range.of(kind.shift),
            decision,
            kind,
            observed,
        )

    def to_json(self) -> dict[str, Any]:
        drift = self.drift
        return {
            "name": self.name,
            "channels": self.channels,
            "epsilon": self.epsilon,
            "momentum": self.momentum,
            "mean": self.mean.to_json(),
            "variance": self.variance.to_json(),
            "scale": self.scale.to_json(),
            "shift": self.shift.to_json(),
            "decision": self.decision.to_json() if self.decision else None,
            "drift": drift.to_json() if drift else None,
        }


def _own_momentum(norm: Norm, format: str) -> float | None:
    """As the file has it: ONNX gives the weight of the old value, PyTorch that of the new batch."""
    if norm.momentum is None or format != "onnx":
        return norm.momentum
    return 1.0 - norm.momentum


@dataclass(frozen=True)
class Inspection:
    """What `inspect` found. ``plan`` is empty for a checkpoint, about which nothing is decided."""

    model: ModelInfo
    batch_norms: tuple[NormReport, ...]
    plan: Plan
    findings: tuple[Finding, ...]
    notes: tuple[str, ...]
    data: str | None = None
    suppressed: tuple[Suppressed, ...] = ()
    against: Against | None = None
    thresholds: Thresholds = field(default_factory=Thresholds)

    @property
    def undecided(self) -> int:
        """How many BatchNorm there are of which nobody can tell what becomes of them."""
        return sum(report.decision is None for report in self.batch_norms)

    @property
    def summary(self) -> dict[str, int]:
        """Counts, which add up over several models."""
        return {
            "batch_norms": len(self.batch_norms),
            "foldable": self.plan.foldable,
            "kept": self.plan.kept,
            "unknown": self.undecided,
            "frozen": self.plan.frozen,
            "affines": len(self.plan.affines),
            **{f"{severity.value}s": count for severity, count in tally(self.findings).items()},
            "suppressed": len(self.suppressed),
        }

    def to_json(self) -> dict[str, Any]:
        return {
            "format_version": FORMAT_VERSION,
            "command": "inspect",
            "model": self.model.to_json(),
            "data": self.data,
            "batch_norms": [report.to_json() for report in self.batch_norms],
            "affines": [{"name": d.name, "decision": d.to_json()} for d in self.plan.affines],
            "findings": [finding.to_json() for finding in self.findings],
            "suppressed": [each.to_json() for each in self.suppressed],
            "against": None if self.against is None else self.against.to_json(),
            "notes": list(self.notes),
            "summary": self.summary,
        }


def inspect(
    model: Model,
    *,
    reparameterize: bool = False,
    selection: Selection | None = None,
    data: Data | None = None,
    sampling: SampleOptions | None = None,
    runtime: RuntimeOptions | None = None,
    other: Model | None = None,
    progress: Progress | None = None,
) -> Inspection:
    """Reports every BatchNorm of ``model``, what is wrong with it, and what `fold` would do.

    Args:
        model: an opened model.
        reparameterize: predict with parallel linear branches merged.
        selection: which rules of the audit run; None means all.
        data: a sample to compare the stored statistics with; see `bnfold.data.open_sample`.
        sampling: which rows of it to take; 512 at most by default.
        runtime: how to run them.
        other: another model to compare the stored statistics with.
        progress: called while the data is run, with the stage and how much of how much is done.

    Raises:
        DataError: where the data does not fit.
        RuntimeUnavailableError: where ``data`` is given and no runtime executes the model.
    """
    progress = progress or no_progress
    progress("planning", 0, 1)
    planned = make_plan(model.graph, reparameterize=reparameterize)
    plan = replace(planned, decisions=tuple(filter(_is_decided, planned.decisions)))
    observed: Mapping[str, Observed] = {}
    on_data: tuple[str, ...] = ()
    if data is not None:
        from bnfold.audit.observation import observe

        progress("reading the data", 0, 1)
        sample = open_sample(data, model.inputs, sampling or SampleOptions(samples=DEFAULT_SAMPLES))
        with scratch_folder() as folder:
            observer = format_of(model).observer(model, folder, runtime or RuntimeOptions())
            observed = observe(observer, sample, progress)
        on_data = sample.notes
    decisions = {decision.name: decision for decision in plan.batch_norms}
    reports = tuple(
        NormReport.of(node, decisions.get(node.name), model.format, observed.get(node.name))
        for node in model.graph.norms
    )
    selection = selection or Selection()
    progress("auditing", 0, 1)
    all_rules = Selection(thresholds=selection.thresholds)
    findings, suppressed = selection.split(run_rules(model, plan, all_rules, observed))
    where = None if data is None else str(data)
    # Where a normalisation stands written out as single operations, a rule says so.
    notes = planned.notes if any(chains(model.graph)) else notes_of(planned, model.format)
    return Inspection(
        ModelInfo.of(model),
        reports,
        plan,
        tuple(findings),
        (*notes, *on_data, *selection.expired(findings)),
        where,
        tuple(suppressed),
        None if other is None else against(model, other),
        selection.thresholds,
    )


def without_known(result: Inspection, baseline: Baseline) -> Inspection:
    """``result`` with what is new; what the baseline knows is suppressed."""
    new, old = baseline.split(result.model.path, result.findings)
    return replace(result, findings=tuple(new), suppressed=(*result.suppressed, *old))


def _is_decided(decision: Decision) -> bool:
    """Whether it says something: a checkpoint has no graph to decide on."""
    return decision.reason is None or decision.reason.reason is not Reason.NO_GRAPH
