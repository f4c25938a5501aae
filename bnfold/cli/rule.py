"""``bnfold rule``: the documentation of the audit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

from bnfold.cli.parsing import Argument
from bnfold.cli.streams import print_report

if TYPE_CHECKING:
    from bnfold.audit import Rule
    from bnfold.reports.terminal import ReportConsole


def rule(
    code: Annotated[
        str | None,
        Argument("CODE", "A code, its beginning (BN4) or a name; none lists them all."),
    ] = None,
) -> int:
    """Explain the rule CODE (as BN105), or list those that begin so, or all."""
    from bnfold.audit import RULES, find_rule
    from bnfold.audit.selection import unknown_rule
    from bnfold.reports.terminal import ReportConsole

    console = ReportConsole()
    found = find_rule(code or "")
    if found is not None:
        print_report(lambda: _print_page(found, console))
        return 0
    listed = [r for r in RULES if r.code.startswith((code or "").upper())]
    if not listed:
        raise unknown_rule(code or "")
    print_report(lambda: _print_list(listed, console))
    return 0


def _print_list(rules: Sequence[Rule], console: ReportConsole) -> None:
    from rich.table import Table

    from bnfold.audit import FAMILIES
    from bnfold.reports.severities import COLOURS, WORDS

    for prefix, family in FAMILIES.items():
        members = [r for r in rules if r.code.startswith(prefix)]
        table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 1))
        for each in members:
            severity = f"[{COLOURS[each.severity]}]{WORDS[each.severity]}[/]"
            table.add_row(f"[bold]{each.code}[/]", severity, each.title)
        if members:
            console.print(f"[bold]{prefix}xx {family}[/]")
            console.print(table)
    console.print("`bnfold rule CODE` explains one.")


def _print_page(found: Rule, console: ReportConsole) -> None:
    from bnfold.reports.severities import COLOURS, WORDS

    severity = f"[{COLOURS[found.severity]}]{WORDS[found.severity]}[/]"
    console.print(f"[bold]{found.code} {found.name}[/] ({severity})")
    console.print(f"{_inline(found.title)}.")
    for heading, text in found.parts.items():
        console.print(f"\n[bold]{heading}[/]")
        for paragraph in text.split("\n\n"):
            console.print(_inline(" ".join(paragraph.split())), indent=2)
    if found.thresholds:
        _print_settings(found, console)


def _print_settings(found: Rule, console: ReportConsole) -> None:
    from bnfold.audit.thresholds import meaning_of
    from bnfold.reports.terminal import escape

    console.print("\n[bold]Settings[/] in \\[tool.bnfold.thresholds]")
    for name in found.thresholds:
        default, meaning = meaning_of(name)
        console.print(f"[bold]{name}[/] = {default:g}: {escape(meaning)}", indent=2)


def _inline(text: str) -> str:
    """Code between backticks in bold, everything else as it stands."""
    from rich.markup import escape

    pieces = text.split("`")
    return "".join(
        f"[bold]{escape(piece)}[/]" if i % 2 else escape(piece) for i, piece in enumerate(pieces)
    )
