"""Reports for people, on the terminal."""

from __future__ import annotations

import io
from collections.abc import Sequence
from functools import singledispatch
from typing import Any

from rich.console import Console
from rich.table import Table

from bnfold.jobs import FoldResult, Inspection, VerifyResult
from bnfold.jobs.recalibration_result import RecalibrationResult
from bnfold.planning import Action, Decision, Plan
from bnfold.proof.comparison import OutputComparison
from bnfold.proof.verification import Verification
from bnfold.reports.fates import ARROWS, WAYS, lowered_to
from bnfold.reports.findings import findings_summary, layer_table, print_findings
from bnfold.reports.proof import proof_in_words, verdict_on
from bnfold.reports.recalibration import print_left, print_recalibration
from bnfold.reports.terminal import ReportConsole, escape

_MANY = 12


def render(result: Any, *, verbose: bool = False) -> None:
    """Prints ``result`` to stdout."""
    console = ReportConsole(highlight=False, soft_wrap=False)
    _render(result, console, verbose)


def rendered(result: Any, width: int = 110) -> str:
    """What `render` prints, as plain text."""
    page = io.StringIO()
    _render(result, Console(file=page, width=width, highlight=False, color_system=None), False)
    return page.getvalue()


@singledispatch
def _render(result: Any, console: Console, verbose: bool) -> None:
    raise TypeError(f"no text report for {type(result).__name__}")


@_render.register
def _(result: Inspection, console: Console, verbose: bool) -> None:
    if result.batch_norms:
        console.print(
            layer_table(result.batch_norms, result.findings, console.width, verbose=verbose)
        )
        console.print()
    print_findings(result.findings, console, verbose=verbose)
    _print_notes(result.notes, console)
    fates = _undecided(result.undecided) if result.undecided else _summary(result.plan)
    console.print(f"[bold]{escape(result.model.label)}[/]: {fates}")
    console.print(findings_summary(result.findings))


@_render.register
def _(result: FoldResult, console: Console, verbose: bool) -> None:
    _print_folded(result.plan, console, verbose)
    _print_kept(result.plan, console, verbose)
    _print_notes(result.notes, console)
    if result.verification is not None:
        _print_verification(result.verification, console)
    console.print(f"[bold]{escape(result.model.label)}[/]: {_summary(result.plan)}")
    nodes = f"{result.nodes_before} nodes before, {result.nodes_after} after"
    if result.output is not None:
        unproven = "" if result.verification else " [yellow](not verified)[/]"
        console.print(f"wrote [bold]{escape(result.output.path)}[/]{unproven}, {nodes}")
        print_left(result.output, console)
    elif result.refused_by_strict:
        console.print("[red]nothing written[/]: --strict, and a BatchNorm has to stay")
    elif not result.ok:
        console.print("[red]nothing written[/]: the verification failed")
    else:
        console.print(f"nothing written (dry run): {nodes}")


_render.register(RecalibrationResult, print_recalibration)


@_render.register
def _(result: VerifyResult, console: Console, verbose: bool) -> None:
    _print_verification(result.verification, console)
    bounded = any(output.bounds for output in result.verification.outputs)
    right = "keep to the bounds asked for" if bounded else "compute the same"
    wrong = "do not keep to the bounds asked for" if bounded else "do not compute the same"
    verdict = f"[green]{right}[/]" if result.ok else f"[red]{wrong}[/]"
    names = f"{escape(result.reference.label)} and {escape(result.candidate.label)}"
    console.print(f"{names} {verdict}")


def _decision(decision: Decision) -> str:
    if decision.action is Action.KEEP:
        return "[yellow]stays[/]"
    into = ", ".join(decision.into[:2]) + (" …" if len(decision.into) > 2 else "")
    arrow = ARROWS[decision.direction]
    verb = "folds" if decision.action is Action.FOLD else "merges"
    return f"[green]{verb}[/] {arrow} {escape(into)}" if into else f"[green]{verb}[/] (identity)"


def _print_folded(plan: Plan, console: Console, verbose: bool) -> None:
    gone = [d for d in plan.decisions if d.action in (Action.FOLD, Action.MERGE)]
    for decision in gone if verbose or len(gone) <= _MANY else ():
        console.print(f"  {escape(decision.name)} {_decision(decision)}")
    if len(gone) > _MANY and not verbose:
        counts = {name: sum(d.direction is way for d in gone) for way, name in WAYS.items()}
        found = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
        console.print(f"  {len(gone)} layers go: {found} (-v lists them)")


def _print_kept(plan: Plan, console: Console, verbose: bool) -> None:
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


def _print_notes(notes: Sequence[str], console: Console) -> None:
    for note in notes:
        console.print(f"[cyan]note:[/] {escape(note)}")


def _print_verification(found: Verification, console: Console) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 1))
    table.add_column("output", overflow="fold")
    for title in ("max error", "max value", "rounding floor", "error / floor", "same class"):
        table.add_column(title, justify="right")
    table.add_column("")
    for each in found.outputs:
        table.add_row(*_comparison(each))
    if found.outputs:
        console.print(table)
    for line in proof_in_words(found):
        console.print(f"  {escape(line)}")
    bounded = any(output.bounds for output in found.outputs)
    right = "compared" if bounded else "verified"
    verdict = f"[green]{right}[/]" if found.passed else "[red]verification failed[/]"
    if not found.passed and not found.differs:
        verdict = "[yellow]not verified[/]: nothing that was compared could have shown a difference"
    console.print(f"{verdict} with {found.runtime}; inputs {escape(found.inputs)}")


def _comparison(each: OutputComparison) -> tuple[str, ...]:
    colour = {"same": "green", "differs": "red"}.get(verdict_on(each), "yellow")
    verdict = f"[{colour}]{verdict_on(each)}[/]"
    same = "" if each.argmax_agreement is None else f"{each.argmax_agreement:.2%}"
    numbers = (each.max_abs_error, each.max_abs_reference, each.rounding_floor, each.ratio)
    return escape(each.name), *(f"{n:.3g}" for n in numbers), same, verdict


def _undecided(count: int) -> str:
    return f"{count} BatchNorm; whether they fold is unknown without the code of the network"


def _summary(plan: Plan) -> str:
    """One line: how many BatchNorm there are, and what becomes of them."""
    total, affines = len(plan.batch_norms), len(plan.affines)
    also = f"; {affines} affine operations go as well" if affines else ""
    if not total:
        return f"no BatchNorm{also}"
    merged = sum(d.action is Action.MERGE for d in plan.batch_norms)
    parts = [f"{plan.foldable - merged} fold"]
    if merged:
        parts.append(f"{merged} merge")
    if plan.lowered:
        parts.append(f"{plan.lowered} lowered (no fold)")
    parts.append(f"{plan.kept} stay")
    return f"{total} BatchNorm: {', '.join(parts)}{also}"
