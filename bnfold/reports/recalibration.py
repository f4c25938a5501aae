"""The text report of `recalibrate`."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from bnfold.jobs.fold import Output
from bnfold.jobs.recalibration_result import RecalibrationResult
from bnfold.recalibration.statistics_change import NormChange
from bnfold.reports.terminal import Name, ReportConsole, escape, name_table, print_note

_MANY, _WIDE = 12, 110


def print_recalibration(result: RecalibrationResult, console: ReportConsole, verbose: bool) -> None:
    """What moved, whether the sample was large enough, what it did to the outputs."""
    changes = sorted(result.batch_norms, key=lambda c: -c.mean_shift)
    shown = result.batch_norms if verbose or len(changes) <= _MANY else changes[:_MANY]
    console.print(_table(shown, verbose, console.width))
    if len(shown) < len(changes):
        console.print(f"  … and {len(changes) - len(shown)} that moved less (-v lists all)")
    _print_untouched(result, console, verbose)
    for note in result.notes:
        print_note(note, console)
    if verbose:
        _print_cost(result, console)
    for remark in result.remarks:
        console.print(escape(remark))
    _print_outputs(result, console)
    _print_check(result, console)
    _print_outcome(result, console)


def _table(changes: Sequence[NormChange], verbose: bool, width: int) -> Table:
    table = name_table("BatchNorm")
    titles = ["largest mean shift [σ]", "variance ratio", "worst channel"]
    if width < _WIDE:
        titles = ["shift [σ]", "ratio", "channel"]
    for title in [*titles, *(["its mean", "its variance"] if verbose else [])]:
        table.add_column(title, justify="right", no_wrap=True)
    for change in changes:
        low, high = change.variance_ratio
        old_mean, new_mean, old_variance, new_variance = change.worst
        cells = [f"{change.mean_shift:.2g}", f"{low:.2g}…{high:.2g}", str(change.worst_channel)]
        if verbose:
            cells += [
                f"{old_mean:.3g} → {new_mean:.3g}",
                f"{old_variance:.3g} → {new_variance:.3g}",
            ]
        table.add_row(Name(escape(change.name)), *cells)
    return table


def _print_untouched(result: RecalibrationResult, console: ReportConsole, verbose: bool) -> None:
    many = len(result.untouched)
    for each in result.untouched[: many if verbose else 3]:
        console.print(f"[yellow]kept[/] {escape(each.name)}: {escape(each.reason)}")
    if many > 3 and not verbose:
        console.print(f"  … and {many - 3} more kept (-v lists all)")


def _print_cost(result: RecalibrationResult, console: ReportConsole) -> None:
    cost = result.cost
    parts = [f"{cost.levels} levels", f"{cost.memory / 2**20:.1f} MiB kept in memory"]
    if cost.disk:
        parts.append(f"{cost.disk / 2**20:.1f} MiB on disk")
    if cost.recomputed_batches:
        parts.append(f"{cost.recomputed_batches} batches computed again")
    console.print(f"{', '.join(parts)}; {escape(result.runtime)}")


def _print_outputs(result: RecalibrationResult, console: ReportConsole) -> None:
    for change in result.outputs:
        text = f"output {escape(change.name)}: changed by {change.relative_change:.2%}"
        if change.argmax_agreement is not None:
            text += f", same class for {change.argmax_agreement:.2%}"
        if change.samples < result.samples:
            text += f" (of {change.samples} samples)"
        console.print(text)
    for warning in result.warnings:
        console.print(f"[yellow]warning:[/] {escape(warning)}")


def _print_check(result: RecalibrationResult, console: ReportConsole) -> None:
    check = result.check
    mark = "[green]checked[/]" if check.agrees else "[red]check failed[/]"
    if not check.agrees and not check.expected:
        mark = "checked"
    console.print(f"{mark}: {escape(result.verdict_of_check)}")


def _print_outcome(result: RecalibrationResult, console: ReportConsole) -> None:
    evaluation = result.evaluation
    if evaluation is not None:
        console.print(f"evaluation: {evaluation.before:.6g} → {evaluation.after:.6g}")
    counts = f"{len(result.batch_norms)} BatchNorm, {result.samples} samples"
    model = f"[bold]{escape(result.model.label)}[/]"
    console.print(f"{model}: {counts}, {result.method_in_words}")
    if result.output is not None:
        console.print(f"wrote [bold]{escape(result.output.path)}[/]")
        print_left(result.output, console)
    else:
        console.print(f"[red]nothing written[/]: {escape(result.refusal or '')}")


def print_left(output: Output, console: ReportConsole) -> None:
    """Data files of the model that was there before."""
    for path in output.left:
        console.print(
            f"[cyan]note:[/] {escape(path)} belonged to the model that was there before, and is left; "
            "remove it if no other model reads it"
        )
