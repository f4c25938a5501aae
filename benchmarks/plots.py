"""A table as a bar chart in SVG: one bar for each row, of the column that the reader compares."""

from __future__ import annotations

from html import escape

from benchmarks.tables import Table

_ROW, _LEFT, _WIDTH = 26, 260, 720


def bars(table: Table, column: int, note: str = "") -> str | None:
    """The chart of one column, ``note`` below it; None where the column holds no numbers."""
    rows = [(str(r[0]), r[column]) for r in table.rows if column < len(r)]
    numbers = [(name, float(v)) for name, v in rows if isinstance(v, int | float)]
    most = max((v for _, v in numbers), default=0.0)
    if most <= 0:
        return None
    height = _ROW * (len(numbers) + 2)
    small = f'<text x="8" y="{height - 8}" font-size="10">{escape(note)}</text>'
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" '
        'font-family="sans-serif" font-size="13" fill="#777">',
        f"<title>{escape(table.title)}: {escape(table.heads[column])}</title>",
        f'<text x="8" y="18" font-weight="bold">{escape(table.title)}, '
        f"{escape(table.heads[column])}</text>",
    ]
    for place, (name, value) in enumerate(numbers):
        top, length = _ROW * (place + 1) + 4, (_WIDTH - _LEFT - 90) * value / most
        colour = "#2a78c2" if name.startswith("bnfold") or name == "folded" else "#9aa7b4"
        lines += [
            f'<text x="{_LEFT - 8}" y="{top + 15}" text-anchor="end">{escape(name)}</text>',
            f'<rect x="{_LEFT}" y="{top}" width="{length:.1f}" height="18" fill="{colour}"/>',
            f'<text x="{_LEFT + length + 6:.1f}" y="{top + 15}">{value:.3g}</text>',
        ]
    return "\n".join([*lines, *([small] if note else []), "</svg>"]) + "\n"
