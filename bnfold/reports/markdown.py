"""Markdown, for a comment on a pull request."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import singledispatch
from pathlib import PurePath
from typing import Any

from bnfold.audit import Finding, Group, Severity, find_rule, grouped, in_words
from bnfold.errors import UsageError
from bnfold.jobs import FoldResult, Inspection
from bnfold.planning import Action, Decision, Plan
from bnfold.proof.verification import Verification
from bnfold.reports.fates import lowered_to
from bnfold.reports.proof import proof_in_words, verdict_on
from bnfold.showable import showable

_SIGNS = {Severity.ERROR: "🔴 error", Severity.WARNING: "🟡 warning", Severity.INFO: "⚪ note"}
# GitHub cuts a comment at 65,536 characters; a table of this many rows stays below it.
_ROWS = 100
_LINK = re.compile(r"[\[\]]")  # of links and images, which would load something


@singledispatch
def render(result: Any) -> str:
    """The result of a job as Markdown.

    Raises:
        UsageError: where there is no such report for it.
    """
    raise UsageError(f"there is no Markdown report for a {type(result).__name__}; use text or json")


@render.register
def _(result: Inspection) -> str:
    lines = [f"### {_code(PurePath(result.model.path).name)}: {in_words(result.findings)}", ""]
    lines += [plan_in_words(result.plan, result.undecided), ""]
    groups = grouped(result.findings)
    if groups:
        lines += ["| | rule | layers | worst finding |", "|---|---|--:|---|"]
        lines += [_group_row(group) for group in groups]
        lines.append("")
    for group in groups:
        lines += _details(group)
    lines += [f"> {_cell(note)}" for note in result.notes]
    return "\n".join(lines).rstrip() + "\n"


@render.register
def _(result: FoldResult) -> str:
    verdict = "folded" if result.output else "nothing written"
    lines = [
        f"### {_code(PurePath(result.model.path).name)}: {verdict}",
        "",
        plan_in_words(result.plan),
    ]
    lines += ["", f"{result.nodes_before} nodes before, {result.nodes_after} after.", ""]
    if result.verification:
        lines += [*_verification(result.verification), ""]
    kept = [d for d in result.plan.batch_norms if d.reason]
    if kept:
        lines += ["| stays | why |", "|---|---|"]
        lines += [
            f"| {_code(d.name)}{_form(d)} | {_cell(d.reason.message)} |"
            for d in kept[:_ROWS]
            if d.reason
        ]
        lines += [_more(len(kept) - _ROWS)]
    return "\n".join(lines).rstrip() + "\n"


def _form(decision: Decision) -> str:
    return f" (as {lowered_to(decision.form)})" if decision.form else ""


def plan_in_words(plan: Plan, undecided: int = 0) -> str:
    """``12 BatchNorm: 10 fold, 1 merges, 1 stays.``"""
    if undecided:
        return (
            f"{undecided} BatchNorm; whether they fold is unknown without the code of the network."
        )
    total = len(plan.batch_norms)
    if not total:
        return "No BatchNorm."
    counts = {a: sum(d.action is a for d in plan.batch_norms) for a in Action}
    parts = [f"{counts[Action.FOLD]} fold"]
    parts += [f"{counts[Action.MERGE]} merge"] if counts[Action.MERGE] else []
    parts += [f"{plan.lowered} lowered (no fold)"] if plan.lowered else []
    parts.append(f"{counts[Action.KEEP]} stay")
    return f"{total} BatchNorm: {', '.join(parts)}."


def _group_row(group: Group) -> str:
    layers = str(len(group.layers)) if group.layers else ""
    where = f"{_code(group.worst.layer)}: " if group.worst.layer else ""
    rule = f"**{group.code}** {group.name}"
    return f"| {_SIGNS[group.severity]} | {rule} | {layers} | {where}{_cell(group.worst.message)} |"


def _details(group: Group) -> Iterator[str]:
    rule = find_rule(group.code)
    title = rule.title if rule else group.name
    yield f"<details><summary><b>{group.code}</b> {_html(title)}</summary>"
    yield ""
    if rule is not None:
        yield " ".join(rule.parts["Why it matters"].split())
        yield ""
        yield f"**What to do.** {' '.join(rule.parts['What to do'].split())}"
        yield ""
    yield from _layers(group.findings)
    yield "</details>"
    yield ""


def _layers(findings: Sequence[Finding]) -> Iterator[str]:
    named = [finding for finding in findings if finding.layer is not None]
    if len(named) < 2:
        return
    yield "| layer | finding |"
    yield "|---|---|"
    for finding in named[:_ROWS]:
        yield f"| {_code(finding.layer or '')} | {_cell(finding.message)} |"
    yield _more(len(named) - _ROWS)


def _more(count: int) -> str:
    return f"\n… and {count} more\n" if count > 0 else ""


def _verification(found: Verification) -> Iterator[str]:
    yield f"**{'Verified' if found.passed else 'Not verified'}** with {found.runtime}; inputs {found.inputs}."
    yield ""
    for line in proof_in_words(found):
        yield f"- {_html(line)}"
    yield ""
    yield "| output | largest error | rounding floor | error / floor | |"
    yield "|---|--:|--:|--:|---|"
    for each in found.outputs:
        numbers = " | ".join(
            f"{n:.3g}" for n in (each.max_abs_error, each.rounding_floor, each.ratio)
        )
        yield f"| {_code(each.name)} | {numbers} | {verdict_on(each)} |"


def _code(name: str) -> str:
    """A name in a code span, where entities would be shown as they stand."""
    return f"`{_one_cell(name.replace('`', chr(39)))}`"


def _cell(text: str) -> str:
    """Text that cannot break out of a table cell."""
    return _html(_one_cell(text))


def _one_cell(text: str) -> str:
    return showable(text).replace("|", "\\|")


def _html(text: str) -> str:
    return _LINK.sub(r"\\\g<0>", text.replace("&", "&amp;").replace("<", "&lt;"))
