"""``bnfold rule``: the documentation of the audit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from bnfold.cli.streams import print_report

if TYPE_CHECKING:
    from bnfold.audit import Rule
    from bnfold.reports.terminal import ReportConsole


def rule(
    code: Annotated[
        str | None,
        typer.Argument(
            metavar="CODE", help="A code or a name; none lists them all.", show_default=False
        ),
    ] = None,
) -> None:
    """Explain the rule CODE (as BN105), or list all rules."""
    from bnfold.audit import find_rule
    from bnfold.audit.selection import unknown_rule
    from bnfold.reports.terminal import ReportConsole

    console = ReportConsole()
    if code is None:
        print_report(lambda: _print_list(console))
        return
    found = find_rule(code)
    if found is None:
        raise unknown_rule(code)
    print_report(lambda: _print_page(found, console))


def _print_list(console: ReportConsole) -> None:
    from rich.table import Table

    from bnfold.audit import FAMILIES, RULES
    from bnfold.reports.findings import COLOURS, WORDS

    for prefix, family in FAMILIES.items():
        table = Table(
            box=None, pad_edge=False, show_header=False, padding=(0, 1), title_justify="left"
        )
        for each in (r for r in RULES if r.code.startswith(prefix)):
            severity = f"[{COLOURS[each.severity]}]{WORDS[each.severity]}[/]"
            table.add_row(f"[bold]{each.code}[/]", severity, each.title)
        console.print(f"[bold]{prefix}xx {family}[/]")
        console.print(table)
    console.print("`bnfold rule CODE` explains one.")


def _print_page(found: Rule, console: ReportConsole) -> None:
    from bnfold.reports.findings import COLOURS, WORDS

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
