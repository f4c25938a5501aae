"""From an inspection to what its template shows: plain data, no markup."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from bnfold.audit import Drift, Finding, Severity, find_rule, grouped
from bnfold.jobs import Inspection, NormReport
from bnfold.planning import Action, Decision
from bnfold.reports.fates import WAYS, lowered_to
from bnfold.reports.html.channels import Channels

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
    """One BatchNorm on the page. ``detail``: where it goes, or why it stays."""

    index: int
    name: str
    worst: Severity | None
    channels: int
    cells: Mapping[str, Number]
    fate: str
    detail: str
    codes: Sequence[tuple[str, str]]
    drift: str

    @property
    def severity(self) -> str:
        return WORDS[self.worst] if self.worst else CALM

    @property
    def spoken(self) -> str:
        """What the tooltip of its bar says, and a screen reader."""
        codes = ", ".join(code for code, _ in self.codes) or "no findings"
        drift = f", {self.drift}" if self.drift else ""
        colon = ":" if self.fate == "stays" else ""
        return f"{self.index + 1}: {self.name}, {self.fate}{colon} {self.detail}; {codes}{drift}"


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
    fate, detail = fate_of(report.decision)
    return LayerView(
        index=index,
        name=report.name,
        worst=min((f.severity for f in findings), key=lambda s: s.rank, default=None),
        channels=report.channels,
        cells=_cells(report, drift),
        fate=fate,
        detail=detail,
        codes=list(dict.fromkeys((f.code, WORDS[f.severity]) for f in findings)),
        drift=_drift_in_words(drift),
    )


def _cells(report: NormReport, drift: Drift | None) -> dict[str, Number]:
    cells = {
        "ε": _number(report.epsilon),
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
    return Number(" … ".join(ends), float(f"{max(abs(low), abs(high)):.3g}"))


def _drift_in_words(drift: Drift | None) -> str:
    if drift is None:
        return ""
    return f"mean off by {drift.mean_rms:.2g} deviations, variance by a factor of {drift.variance_factor:.3g}"


def channels_of(result: Inspection, layers: Sequence[LayerView]) -> list[Channels]:
    """What the charts of each layer are drawn from."""
    return [_channels(r, v) for r, v in zip(result.batch_norms, layers, strict=True)]


def _channels(report: NormReport, view: LayerView) -> Channels:
    norm, seen = report.norm, report.observed
    stored = (norm.mean, norm.variance, norm.scale, norm.shift)
    fits = seen is not None and seen.mean.shape == norm.mean.shape
    rows = [seen.mean, seen.variance] if seen is not None and fits else []
    percentiles = seen.percentiles if seen is not None and rows else None
    if percentiles is not None and percentiles.shape[1:] == norm.mean.shape:
        rows += list(percentiles)
    troubled = view.worst in (Severity.ERROR, Severity.WARNING)
    return Channels(stored, rows, norm.epsilon, troubled)


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


def rule_views(findings: Iterable[Finding], places: Mapping[str, int]) -> list[dict[str, Any]]:
    """Findings once a rule, the worst first, with the rule's documentation.

    Args:
        findings: all of them.
        places: the number of each layer, from 0.
    """
    # `grouped` has a group for each severity of a rule, the worst first.
    groups = grouped(findings)
    order = list(dict.fromkeys(group.code for group in groups))
    together = sorted(groups, key=lambda group: order.index(group.code))
    by_code = groupby(together, key=lambda group: group.code)
    return [_rule_view(code, list(members), places) for code, members in by_code]


def _rule_view(code: str, groups: Sequence[Any], places: Mapping[str, int]) -> dict[str, Any]:
    rule = find_rule(code)
    counts = [(len(g.findings), WORDS[g.severity]) for g in groups]
    return {
        "code": code,
        "title": rule.title if rule else groups[0].name,
        "severity": counts[0][1],
        "counts": ", ".join(f"{n} {word}{'' if n == 1 else 's'}" for n, word in counts),
        "findings": [
            (f.layer, places.get(f.layer or ""), f.message, WORDS[f.severity])
            for g in groups
            for f in g.findings
        ],
        "doc": [(h, paragraphs(t)) for h, t in rule.parts.items()] if rule else [],
        "remedy": rule.remedy if rule else "",
    }


def paragraphs(text: str) -> list[str]:
    return [" ".join(part.split()) for part in text.split("\n\n")]


def decision_rows(decisions: Sequence[Decision]) -> list[tuple[str, str, str]]:
    """Name, fate and detail of each."""
    return [(d.name, *fate_of(d)) for d in decisions]
