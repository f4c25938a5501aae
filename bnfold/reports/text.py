"""Reports for people, on the terminal."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from functools import singledispatch
from typing import IO, Any

from bnfold.jobs import FoldResult, Inspection, VerifyResult
from bnfold.jobs.recalibration_result import RecalibrationResult
from bnfold.planning import Action, Decision, Plan
from bnfold.proof.comparison import OutputComparison
from bnfold.proof.verification import Verification
from bnfold.reports.against import print_against
from bnfold.reports.fates import ARROWS, WAYS, lowered_to
from bnfold.reports.findings import findings_summary, layer_table, print_findings, print_suppressed
from bnfold.reports.proof import proof_in_words, verdict_on
from bnfold.reports.recalibration import print_left, print_recalibration
from bnfold.reports.terminal import Name, ReportConsole, escape, name_table, print_note

_MANY, _WIDE = 12, 100
_COMPARED = ("max error", "max value", "rounding floor", "error / floor", "same class")
_WHERE_THERE_IS_ROOM = ("max value", "rounding floor")


def render(result: Any, *, verbose: bool = False, file: IO[str] | None = None) -> None:
    """Prints ``result`` to stdout, or to ``file``."""
    _render(result, ReportConsole(file), verbose)


def print_total(counts: Mapping[str, int], file: IO[str] | None = None) -> None:
    """The last line of a report on several models."""
    folding = counts.get("foldable", counts.get("folded", 0))
    fates = f"{folding} fold, {counts.get('kept', 0)} stay"
    if "recalibrated" in counts:
        fates = f"{counts['recalibrated']} recalibrated, {counts['untouched']} left as they were"
    parts = [f"{counts.get('batch_norms', 0)} BatchNorm: {fates}"]
    for key in ("error", "warning"):
        if count := counts.get(f"{key}s"):
            parts.append(f"{count} {key}{'' if count == 1 else 's'}")
    if counts["failed"]:
        parts.append(f"{counts['failed']} of them failed")
    models = f"{counts['models']} model{'' if counts['models'] == 1 else 's'}"
    ReportConsole(file).print(f"[bold]{models}[/]: {'; '.join(parts)}")


def rendered(result: Any, width: int = 110) -> str:
    """What `render` prints, as plain text."""
    page = io.StringIO()
    _render(result, ReportConsole(page, width), False)
    return page.getvalue()


@singledispatch
def _render(result: Any, console: ReportConsole, verbose: bool) -> None:
    raise TypeError(f"no text report for {type(result).__name__}")


@_render.register
def _(result: Inspection, console: ReportConsole, verbose: bool) -> None:
    if result.batch_norms:
        console.print(
            layer_table(result.batch_norms, result.findings, console.width, verbose=verbose)
        )
        console.print()
    print_findings(result.findings, console, verbose=verbose)
    if result.against is not None:
        print_against(result.against, console, verbose=verbose)
    _print_notes(result.notes, console)
    fates = _undecided(result.undecided) if result.undecided else _summary(result.plan)
    console.print(f"[bold]{escape(result.model.label)}[/]: {fates}")
    print_suppressed(result.suppressed, console, verbose=verbose)
    console.print(findings_summary(result.findings))


@_render.register
def _(result: FoldResult, console: ReportConsole, verbose: bool) -> None:
    _print_folded(result.plan, console, verbose)
    _print_kept(result.plan, console, verbose)
    _print_notes(result.notes, console)
    if result.verification is not None:
        _print_verification(result.verification, console, verbose)
    print_warnings(result.warnings, console)
    console.print(f"[bold]{escape(result.model.label)}[/]: {_summary(result.plan)}")
    nodes = f"{result.nodes_before} nodes before, {result.nodes_after} after"
    if result.output is not None:
        doubt = "" if result.plan.edits else " (a copy)"
        if result.plan.edits and not result.verification:
            doubt = " [yellow](not verified)[/]"
        console.print(f"wrote [bold]{escape(result.output.path)}[/]{doubt}, {nodes}")
        print_left(result.output, console)
    elif result.refusal is not None:
        console.print(f"[red]nothing written[/]: {escape(result.refusal)}")
    elif not result.ok:
        undecided = result.verification is not None and not result.verification.differs
        why = "nothing is proved" if undecided else "the verification failed"
        console.print(f"[red]nothing written[/]: {why}")
    else:
        console.print(f"nothing written (dry run): {nodes}")


_render.register(RecalibrationResult, print_recalibration)


@_render.register
def _(result: VerifyResult, console: ReportConsole, verbose: bool) -> None:
    _print_verification(result.verification, console, verbose)
    bounded = any(output.bounds for output in result.verification.outputs)
    right = "keep to the bounds asked for" if bounded else "compute the same"
    wrong = "do not keep to the bounds asked for" if bounded else "do not compute the same"
    verdict = f"[green]{right}[/]" if result.ok else f"[red]{wrong}[/]"
    if not result.ok and not result.verification.differs:
        verdict = "[red]could not be told apart, nor shown to be the same[/]"
    print_warnings(result.warnings, console)
    names = f"{escape(result.reference.label)} and {escape(result.candidate.label)}"
    console.print(f"{names} {verdict}")


def _decision(decision: Decision) -> str:
    if decision.action is Action.KEEP:
        return "[yellow]stays[/]"
    into = ", ".join(decision.into[:2]) + (" …" if len(decision.into) > 2 else "")
    arrow = ARROWS[decision.direction]
    verb = "folds" if decision.action is Action.FOLD else "merges"
    return f"[green]{verb}[/] {arrow} {escape(into)}" if into else f"[green]{verb}[/] (identity)"


def _print_folded(plan: Plan, console: ReportConsole, verbose: bool) -> None:
    gone = [d for d in plan.decisions if d.action in (Action.FOLD, Action.MERGE)]
    for decision in gone if verbose or len(gone) <= _MANY else ():
        console.print(f"  {escape(decision.name)} {_decision(decision)}")
    if len(gone) > _MANY and not verbose:
        counts = {name: sum(d.direction is way for d in gone) for way, name in WAYS.items()}
        found = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
        console.print(f"  {len(gone)} layers go: {found} (-v lists them)")


def _print_kept(plan: Plan, console: ReportConsole, verbose: bool) -> None:
    """What stays, in whatever form, grouped by the reason; the sentence of the first stands for its
    group."""
    groups: dict[tuple[str, str], list[Decision]] = {}
    for decision in plan.batch_norms:
        if decision.reason is not None:
            key = decision.reason.reason.code, lowered_to(decision.form)
            groups.setdefault(key, []).append(decision)
    for (code, form), decisions in groups.items():
        shown = decisions if verbose else decisions[:3]
        becomes = f"{len(decisions)} lowered to {form}" if form else f"{len(decisions)} stay"
        console.print(f"[yellow]{becomes}[/] ({code}):")
        for decision in shown:
            assert decision.reason is not None
            console.print(f"  {escape(decision.name)}: {escape(decision.reason.message)}")
        if len(shown) < len(decisions):
            console.print(f"  … and {len(decisions) - len(shown)} more (-v lists all)")


def print_warnings(warnings: Sequence[str], console: ReportConsole) -> None:
    """What nobody should overlook."""
    for warning in warnings:
        console.print(f"[bold yellow]warning:[/] {escape(warning)}")


def _print_notes(notes: Sequence[str], console: ReportConsole) -> None:
    for note in notes:
        print_note(note, console)


def _print_verification(found: Verification, console: ReportConsole, verbose: bool) -> None:
    table = name_table("output")
    titles = [t for t in _COMPARED if console.width >= _WIDE or t not in _WHERE_THERE_IS_ROOM]
    for title in titles:
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    for each in found.outputs:
        numbers, verdict = _comparison(each)
        table.add_row(Name(escape(each.name)), *(numbers[title] for title in titles), verdict)
    if found.outputs and not found.of_a_copy:
        console.print(table)
    for line in proof_in_words(found, verbose=verbose):
        console.print(f"  {escape(line)}")
    bounded = any(output.bounds for output in found.outputs)
    right = "compared" if bounded else "verified"
    verdict = f"[green]{right}[/]" if found.passed else "[red]verification failed[/]"
    if not found.passed and not found.differs:
        verdict = "[yellow]not verified[/]: nothing that was compared could have shown a difference"
    console.print(f"{verdict} with {found.runtime}; inputs {escape(found.inputs)}")


def _comparison(each: OutputComparison) -> tuple[dict[str, str], str]:
    colour = {"same": "green", "differs": "red"}.get(verdict_on(each), "yellow")
    verdict = f"[{colour}]{verdict_on(each)}[/]"
    same = "" if each.argmax_agreement is None else f"{each.argmax_agreement:.2%}"
    numbers = (each.max_abs_error, each.max_abs_reference, each.rounding_floor, each.ratio)
    return dict(zip(_COMPARED, (*(f"{n:.3g}" for n in numbers), same), strict=True)), verdict


def _undecided(count: int) -> str:
    return f"{count} BatchNorm; whether they fold is unknown without the code of the network"


def _summary(plan: Plan) -> str:
    """One line: how many BatchNorm there are, and what becomes of them."""
    total, affines = len(plan.batch_norms), len(plan.affines) - 2 * plan.frozen
    operations = "1 affine operation" if affines == 1 else f"{affines} affine operations"
    also = f"; {plan.frozen} frozen BatchNorm fold" if plan.frozen else ""
    also += f"; {operations} can go as well" if affines else ""
    if not total and plan.frozen:
        return also.removeprefix("; ")
    if not total:
        return f"no BatchNorm; {operations} can go" if affines else "no BatchNorm"
    merged = sum(d.action is Action.MERGE for d in plan.batch_norms)
    parts = [f"{plan.foldable - merged} fold"]
    if merged:
        parts.append(f"{merged} merge")
    if plan.lowered:
        parts.append(f"{plan.lowered} lowered (no fold)")
    parts.append(f"{plan.kept} stay")
    return f"{total} BatchNorm: {', '.join(parts)}{also}"
