"""The text report: within the width of the terminal, the trouble first, short."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.console import Console

from bnfold.jobs import Inspection
from bnfold.reports import text
from bnfold.reports.findings import layer_table


def printed(result: Inspection, width: int, *, verbose: bool = False) -> str:
    stream = io.StringIO()
    console = Console(file=stream, width=width, highlight=False)
    text._render(result, console, verbose)
    return stream.getvalue()


@pytest.mark.parametrize("width", [80, 110, 160])
@pytest.mark.parametrize("verbose", [False, True])
def test_fits_the_terminal(inspection_with_data: Inspection, width: int, verbose: bool) -> None:
    lines = printed(inspection_with_data, width, verbose=verbose).splitlines()
    assert max(map(len, lines)) <= width
    assert any("BN101" in line for line in lines)


def test_wider_terminals_show_more(inspection: Inspection) -> None:
    narrow, wide = (printed(inspection, width).splitlines()[0].split() for width in (80, 160))
    assert narrow == ["BatchNorm", "ch.", "variance", "becomes", "findings"]
    assert set(narrow) < set(wide)


def test_trouble_comes_first_and_the_summary_last(inspection: Inspection) -> None:
    lines = printed(inspection, 100).splitlines()
    assert "stem|bn" in lines[1]
    assert lines[-1].startswith("1 error, ")
    assert "3 BatchNorm: 1 fold, 2 stay" in lines[-2]


def test_verbose_keeps_the_order_of_the_network(inspection: Inspection) -> None:
    found = printed(inspection, 100, verbose=True)
    assert found.index("stem|bn") < found.index("body<bn>") < found.index("head: bn")


def test_thousands_of_layers_stay_on_a_page(inspection: Inspection) -> None:
    reports = tuple(replace(inspection.batch_norms[i % 3], name=f"layer{i}") for i in range(3000))
    many = replace(inspection, batch_norms=reports, findings=())
    assert len(printed(many, 80).splitlines()) < 30
    assert "more" in printed(many, 80)
    assert layer_table(reports, (), 80, verbose=True).row_count == 3000
