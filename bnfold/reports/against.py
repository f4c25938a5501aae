"""Two models beside one another, as text."""

from __future__ import annotations

from bnfold.jobs.against import Against
from bnfold.reports.terminal import Name, ReportConsole, escape, name_table

_MANY = 12


def print_against(found: Against, console: ReportConsole, *, verbose: bool) -> None:
    """Which layers differ, the furthest first, and which have no counterpart."""
    changed = found.changed
    label = f"[bold]{escape(found.other.label)}[/]"
    if changed:
        console.print()
        console.print(f"against {label}, in its deviations:")
        table = name_table("BatchNorm")
        for title in ("mean shift [σ]", "channel", "variance ratio", "scale, shift"):
            table.add_column(title, justify="right", no_wrap=True)
        for each in changed if verbose else changed[:_MANY]:
            low, high = each.variance_ratio
            ratio = f"{low:.3g}…{high:.3g}" if low != high else f"{low:.3g}"
            moved = f"±{each.affine:.2g}" if each.affine else "same"
            shift = f"{each.mean_shift:.2g}"
            table.add_row(Name(escape(each.name)), shift, str(each.channel), ratio, moved)
        console.print(table)
        if not verbose and len(changed) > _MANY:
            console.print(f"  … and {len(changed) - _MANY} that moved less (-v lists all)")
    for what, names in (
        ("in the other model alone", found.missing),
        ("in this model alone", found.new),
        ("with another number of channels there", found.resized),
    ):
        if names:
            shown = ", ".join(map(escape, names if verbose else names[:3]))
            more = "" if verbose or len(names) <= 3 else f" and {len(names) - 3} more"
            console.print(f"{len(names)} {what}: {shown}{more}")
    if found.by_position:
        console.print("[cyan]note:[/] no name is in both, so the layers go by their order")
    if not found.changes:
        console.print(
            f"[bold yellow]warning:[/] nothing is compared: no BatchNorm here has the name of one in {label}"
        )
        return
    console.print(f"against {label}: {len(changed)} of {len(found.changes)} BatchNorm differ")
