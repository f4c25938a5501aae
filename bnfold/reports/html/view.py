"""From a job's result to what the templates show: plain data, no markup but charts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup

from bnfold.audit import Drift, Finding, Severity, find_rule, grouped
from bnfold.jobs import Inspection, NormReport
from bnfold.planning import Action, Decision
from bnfold.reports.fates import WAYS, lowered_to
from bnfold.reports.html.charts import percentile_band, profile

WORDS = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.INFO: "note"}
CALM = "calm"
UNKNOWN = "unknown"


@dataclass(frozen=True)
class Number:
    """A cell: what is shown, and what it is sorted by."""

    text: str
    sort: float


@dataclass(frozen=True)
class LayerView:
    """One BatchNorm on the page. ``height`` is its bar in the strip, in per cent."""

    index: int
    name: str
    severity: str
    channels: int
    epsilon: Number
    cells: Mapping[str, Number]
    fate: str
    fate_detail: str
    codes: Sequence[tuple[str, str]]
    messages: Sequence[tuple[str, str, str]]
    height: int
    drift: str
    charts: Sequence[tuple[str, Markup]]
    percentiles: Markup | None

    @property
    def fate_sentence(self) -> str:
        """What becomes of it, and why."""
        if self.fate == UNKNOWN:
            return f"What becomes of it is unknown {self.fate_detail}."
        colon = ":" if self.fate == "stays" else ""
        return f"{self.fate.capitalize()}{colon} {self.fate_detail}."

    @property
    def spoken(self) -> str:
        """What a screen reader says of its bar."""
        codes = ", ".join(code for code, _ in self.codes) or "no findings"
        return f"{self.index + 1}: {self.name}, {self.fate}, {codes}{', ' if self.drift else ''}{self.drift}"


def layer_views(result: Inspection) -> list[LayerView]:
    """Every layer in the order of the network."""
    marks: dict[str | None, list[Finding]] = {}
    for finding in result.findings:
        marks.setdefault(finding.layer, []).append(finding)
    return [
        _layer(index, report, marks.get(report.name, []))
        for index, report in enumerate(result.batch_norms)
    ]


def _layer(index: int, report: NormReport, findings: Sequence[Finding]) -> LayerView:
    drift = report.drift
    worst = min((f.severity for f in findings), key=lambda s: s.rank, default=None)
    fate, detail = fate_of(report.decision)
    return LayerView(
        index=index,
        name=report.name,
        severity=WORDS[worst] if worst else CALM,
        channels=report.channels,
        epsilon=_number(report.epsilon),
        cells=_cells(report, drift),
        fate=fate,
        fate_detail=detail,
        codes=list(dict.fromkeys((f.code, WORDS[f.severity]) for f in findings)),
        messages=[(f.code, WORDS[f.severity], f.message) for f in findings],
        height=_height(drift),
        drift=_drift_in_words(drift),
        charts=_charts(report),
        percentiles=_percentiles(report),
    )


def _cells(report: NormReport, drift: Drift | None) -> dict[str, Number]:
    cells = {
        "mean": _range(report.mean.min, report.mean.max),
        "variance": _range(report.variance.min, report.variance.max),
        "scale": _range(report.scale.min, report.scale.max),
    }
    if drift is not None:
        cells["mean shift"] = Number(f"{drift.mean_rms:.2g}σ", drift.mean_rms)
        cells["variance ×"] = Number(f"{drift.variance_factor:.3g}", drift.variance_factor)
    return cells


def _number(value: float | None) -> Number:
    return Number("?", -1.0) if value is None else Number(f"{value:.2g}", value)


def _range(low: float | None, high: float | None) -> Number:
    """Sorted by the larger end."""
    if low is None or high is None:
        return Number("?", -1.0)
    ends = dict.fromkeys((f"{low:.2g}", f"{high:.2g}"))
    return Number(" … ".join(ends), max(abs(low), abs(high)))


def _height(drift: Drift | None) -> int:
    """From a tenth (no drift) to full (2 nats in the median channel), by the root."""
    if drift is None:
        return 100
    return int(12 + 88 * min(1.0, (drift.layer_divergence / 2.0) ** 0.5))


def _drift_in_words(drift: Drift | None) -> str:
    if drift is None:
        return ""
    return f"mean off by {drift.mean_rms:.2g} deviations, variance by a factor of {drift.variance_factor:.3g}"


def _charts(report: NormReport) -> list[tuple[str, Markup]]:
    norm, seen = report.norm, report.observed
    fits = seen is not None and seen.mean.shape == norm.mean.shape
    mean = seen.mean if seen is not None and fits else None
    variance = seen.variance if seen is not None and fits else None
    if not norm.mean.size:
        return []
    return [
        ("Running mean", profile("Running mean", norm.mean, mean)),
        ("Running variance", profile("Running variance", norm.variance, variance, variance=True)),
        ("Scale γ", profile("Scale", norm.scale)),
        ("Shift β", profile("Shift", norm.shift)),
    ]


def _percentiles(report: NormReport) -> Markup | None:
    norm, seen = report.norm, report.observed
    if seen is None or seen.percentiles is None or seen.percentiles.shape[1:] != norm.mean.shape:
        return None
    with np.errstate(invalid="ignore"):
        deviation = np.sqrt(norm.variance + (norm.epsilon or 0.0))
    return percentile_band(seen.percentiles, norm.mean, deviation)


def fate_of(decision: Decision | None) -> tuple[str, str]:
    """A word, and the rest of the sentence."""
    if decision is None:
        return UNKNOWN, "without the code of the network"
    if decision.action is Action.KEEP:
        return "stays", decision.reason.message if decision.reason else ""
    if decision.action is Action.LOWER:
        reason = decision.reason.message if decision.reason else ""
        return "lowered", f"to {lowered_to(decision.form)}, as it has to stay: {reason}"
    word = "folds" if decision.action is Action.FOLD else "merges"
    where = WAYS[decision.direction]
    into = ", ".join(decision.into) or "nothing (it is the identity)"
    return word, f"{where} into {into}"


def group_views(findings: Sequence[Finding]) -> list[dict[str, Any]]:
    """Findings by rule, with the rule's documentation."""
    views = []
    for group in grouped(findings):
        rule = find_rule(group.code)
        views.append(
            {
                "code": group.code,
                "title": rule.title if rule else group.name,
                "severity": WORDS[group.severity],
                "findings": [(f.layer, f.message) for f in group.findings],
                "doc": [(h, paragraphs(t)) for h, t in rule.parts.items()] if rule else [],
                "remedy": rule.remedy if rule else "",
            }
        )
    return views


def paragraphs(text: str) -> list[str]:
    return [" ".join(part.split()) for part in text.split("\n\n")]


def decision_rows(decisions: Sequence[Decision]) -> list[tuple[str, str, str]]:
    """Name, fate and detail of each."""
    return [(d.name, *fate_of(d)) for d in decisions]
