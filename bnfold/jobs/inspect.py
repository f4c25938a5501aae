"""Inspect: every BatchNorm of a model, its statistics, and what can become of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from bnfold.algebra.affine import Array
from bnfold.audit.finding import Finding
from bnfold.formats import Model
from bnfold.graph import Node, Norm
from bnfold.jobs.common import FORMAT_VERSION, ModelInfo, notes_of
from bnfold.planning import Decision, Plan, make_plan


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
    """One BatchNorm: settings, ranges of its parameters, and its predicted decision."""

    name: str
    channels: int
    epsilon: float
    momentum: float | None
    mean: Range
    variance: Range
    scale: Range
    shift: Range
    decision: Decision

    @classmethod
    def of(cls, node: Node, decision: Decision) -> NormReport:
        kind = node.kind
        assert isinstance(kind, Norm)
        return cls(
            node.name,
            kind.channels,
            kind.epsilon,
            kind.momentum,
            Range.of(kind.mean),
            Range.of(kind.variance),
            Range.of(kind.scale),
            Range.of(kind.shift),
            decision,
        )

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "channels": self.channels,
            "epsilon": self.epsilon,
            "momentum": self.momentum,
            "mean": self.mean.to_json(),
            "variance": self.variance.to_json(),
            "scale": self.scale.to_json(),
            "shift": self.shift.to_json(),
            "decision": self.decision.to_json(),
        }


@dataclass(frozen=True)
class Inspection:
    """What `inspect` found."""

    model: ModelInfo
    batch_norms: tuple[NormReport, ...]
    plan: Plan
    findings: tuple[Finding, ...]
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        return {
            "format_version": FORMAT_VERSION,
            "command": "inspect",
            "model": self.model.to_json(),
            "batch_norms": [report.to_json() for report in self.batch_norms],
            "affines": [{"name": d.name, "decision": d.to_json()} for d in self.plan.affines],
            "findings": [finding.to_json() for finding in self.findings],
            "notes": list(self.notes),
            "summary": {
                "batch_norms": len(self.batch_norms),
                "foldable": self.plan.foldable,
                "kept": self.plan.kept,
                "affines": len(self.plan.affines),
            },
        }


def inspect(model: Model, *, reparameterize: bool = False) -> Inspection:
    """Reports every BatchNorm of ``model`` and the decision that `fold` would take.

    Args:
        model: an opened model.
        reparameterize: predict with parallel linear branches merged.
    """
    plan = make_plan(model.graph, reparameterize=reparameterize)
    decisions = {decision.name: decision for decision in plan.batch_norms}
    reports = tuple(NormReport.of(node, decisions[node.name]) for node in model.graph.norms)
    return Inspection(ModelInfo.of(model), reports, plan, (), notes_of(plan))
