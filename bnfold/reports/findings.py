"""Findings and layers on the terminal: by rule, the worst first, thousands of layers on a page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from rich.table import Table

from bnfold.audit import (
    Finding,
    Group,
    Severity,
    Suppressed,
    find_rule,
    grouped,
    in_words,
)
from bnfold.jobs import NormReport
from bnfold.jobs.inspect import Range
from bnfold.planning import Action, Decision
from bnfold.reports.fates import ARROWS
from bnfold.reports.severities import COLOURS, WORDS
from bnfold.reports.terminal import Name, ReportConsole, escape, name_table

# Rows of one kind that are shown before the rest of them share a line, and lines in all.
_OF_A_KIND, _LINES = 3, 24


def print_findings(findings: Sequence[Finding], console: ReportConsole, *, verbose: bool) -> None:
    """One paragraph for each rule and severity; with ``verbose`` every layer of it. What to do is
    said once for each rule, where it is worst."""
    said: set[str] = set()
    for group in grouped(findings):
        rule = find_rule(group.code)
        head = f"[{COLOURS[group.severity]}]{WORDS[group.severity]}[/] [bold]{group.code}[/]"
        console.print(f"{head} {escape(rule.title if rule else group.name)}")
        for line in _lines(group, verbose):
            console.print(line, indent=4)
        if rule is not None and group.code not in said:
            said.add(group.code)
            console.print(f"[dim]→ {escape(rule.remedy)}[/]", indent=4)


def print_suppressed(
    suppressed: Sequence[Suppressed], console: ReportConsole, *, verbose: bool
) -> None:
    """How many findings are hidden, and by what; with ``verbose`` each of them."""
    by: dict[tuple[str, str | None], list[Suppressed]] = {}
    for each in suppressed:
        if each.by.startswith("--"):  # who typed it knows
            continue
        by.setdefault((each.by, each.reason), []).append(each)
    for (where, reason), members in by.items():
        codes = ", ".join(dict.fromkeys(each.finding.code for each in members))
        why = "" if reason is None else f": {reason}"
        hidden = f"{len(members)} hidden by {where} ({codes}){why}"
        console.print(f"[dim]{escape(hidden)}[/]")
        for each in members if verbose else ():
            where = each.finding.layer or "the model"
            line = f"{each.finding.code} {where}: {each.finding.message}"
            console.print(f"[dim]{escape(line)}[/]", indent=4)


def findings_summary(findings: Sequence[Finding]) -> str:
    """The last line of the report."""
    if not findings:
        return "[green]no findings[/]"
    worst = min(findings, key=lambda f: f.severity.rank)
    return (
        f"[{COLOURS[worst.severity]}]{in_words(findings)}[/] "
        f"[dim](bnfold rule {worst.code} explains one)[/]"
    )


def _lines(group: Group, verbose: bool) -> Iterator[str]:
    shown = group.findings if verbose else group.findings[:1]
    for finding in shown:
        where = f"[bold]{escape(finding.layer)}[/]: " if finding.layer else ""
        yield f"{where}{escape(finding.message)}"
    rest = [f.layer for f in group.findings[len(shown) :] if f.layer]
    if rest:
        names = ", ".join(map(escape, rest[:2]))
        more = f" and {len(rest) - 2} more (-v lists them)" if len(rest) > 2 else ""
        yield f"[dim]also in[/] {names}{more}"


def layer_table(
    reports: Sequence[NormReport], findings: Sequence[Finding], width: int, *, verbose: bool
) -> Table:
    """The layers, the troubled first; all of them in their own order with ``verbose``.

    Layers of one kind (the same findings, the same fate) beyond the first few share one line.
    """
    marks = _marks(findings)
    columns = _columns(width, drift=any(report.observed is not None for report in reports))
    table = name_table("BatchNorm")
    for title in columns:
        right = title not in ("becomes", "findings")
        table.add_column(title, justify="right" if right else "left", no_wrap=True)
    for row in _rows(reports, marks, verbose):
        name, cells = _one(row, marks) if isinstance(row, NormReport) else _several(row, marks)
        table.add_row(Name(name), *(cells[title] for title in columns))
    return table


def _columns(width: int, *, drift: bool) -> tuple[str, ...]:
    """What fits: 80 columns hold the essential, wider terminals more."""
    first, last = ("ch.",), (*(("drift",) if drift else ()), "becomes", "findings")
    if width < 100:
        return (*first, *(() if drift else ("variance",)), *last)
    if width < 135:
        return (*first, "mean", "variance", *(() if drift else ("scale",)), *last)
    return (*first, "epsilon", "mean", "variance", "scale", "shift", *last)


Marks = Mapping[str, Sequence[Finding]]


def _marks(findings: Sequence[Finding]) -> Marks:
    marks: dict[str, list[Finding]] = {}
    for finding in findings:
        if finding.layer is not None:
            marks.setdefault(finding.layer, []).append(finding)
    return marks


def _rows(
    reports: Sequence[NormReport], marks: Marks, verbose: bool
) -> Iterator[NormReport | list[NormReport]]:
    if verbose:
        yield from reports
        return
    kinds: dict[tuple[object, ...], list[NormReport]] = {}
    for report in sorted(reports, key=lambda r: _trouble(r, marks)):
        codes = tuple(f.code for f in marks.get(report.name, ()))
        action = report.decision.action if report.decision else None
        kinds.setdefault((codes, action), []).append(report)
    lines = 0
    rest: list[NormReport] = []
    for members in kinds.values():
        few = len(members) <= _OF_A_KIND + 1
        shown = members if few else members[: _OF_A_KIND - 1]
        if lines + len(shown) > _LINES:
            rest += members
            continue
        yield from shown
        lines += len(shown)
        if not few:
            yield members[len(shown) :]
            lines += 1
    if rest:
        yield rest


def _trouble(report: NormReport, marks: Marks) -> tuple[int, int, float]:
    """Sorts the worst severity first, then the most findings, then the largest."""
    found = marks.get(report.name, ())
    rank = min((f.severity.rank for f in found), default=len(Severity))
    same = [f for f in found if f.severity.rank == rank]
    return rank, -len(same), -max((f.size for f in same), default=0.0)


def _one(report: NormReport, marks: Marks) -> tuple[str, dict[str, str]]:
    return escape(report.name), {
        "ch.": str(report.channels),
        "epsilon": _number(report.epsilon),
        "mean": _range([report.mean]),
        "variance": _range([report.variance]),
        "scale": _range([report.scale]),
        "shift": _range([report.shift]),
        "drift": _drift([report]),
        "becomes": _decision(report.decision),
        "findings": _codes(marks.get(report.name, ())),
    }


def _several(reports: Sequence[NormReport], marks: Marks) -> tuple[str, dict[str, str]]:
    """Many layers in one line: their number, their channels and the ranges over all."""
    fates = {_decision(report.decision) for report in reports}
    found = {f.code: f for report in reports for f in marks.get(report.name, ())}
    epsilons = sorted({_number(report.epsilon) for report in reports})
    return f"[dim]{len(reports)} more[/]", {
        "ch.": f"{sum(report.channels for report in reports)}",
        "epsilon": epsilons[0] if len(epsilons) == 1 else "mixed",
        "mean": _range([report.mean for report in reports]),
        "variance": _range([report.variance for report in reports]),
        "scale": _range([report.scale for report in reports]),
        "shift": _range([report.shift for report in reports]),
        "drift": _drift(reports),
        "becomes": fates.pop() if len(fates) == 1 else "mixed",
        "findings": _codes(list(found.values())),
    }


def _number(value: float | None) -> str:
    return "?" if value is None else f"{value:.2g}"


def _range(ranges: Sequence[Range]) -> str:
    lows = [r.min for r in ranges if r.min is not None]
    highs = [r.max for r in ranges if r.max is not None]
    if not lows or not highs:
        return "?"
    low, high = f"{min(lows):.2g}", f"{max(highs):.2g}"
    return low if low == high else f"{low}…{high}"


def _drift(reports: Sequence[NormReport]) -> str:
    """The largest shift of the mean, in deviations, and factor between the variances."""
    drifts = [report.drift for report in reports if report.drift is not None]
    if not drifts:
        return ""
    mean = max(drift.mean_rms for drift in drifts)
    return f"{_short(mean)}σ ×{_short(max(drift.variance_factor for drift in drifts))}"


def _short(value: float) -> str:
    return f"{value:.2g}" if value < 100 else f"{value:,.0f}"


def _codes(findings: Sequence[Finding]) -> str:
    ordered = sorted(findings, key=lambda f: (f.severity.rank, f.code))
    return " ".join(dict.fromkeys(f"[{COLOURS[f.severity]}]{f.code}[/]" for f in ordered))


def _decision(decision: Decision | None) -> str:
    if decision is None:
        return "[dim]unknown[/]"
    if decision.action is Action.KEEP:
        return "[yellow]stays[/]"
    verb = "folds" if decision.action is Action.FOLD else "merges"
    return f"[green]{verb} {ARROWS[decision.direction]}[/]"
