"""The text report: within the width of the terminal, the trouble first, short."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.console import Console

from bnfold.jobs import Inspection
from bnfold.jobs.inspect import Range
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


def test_what_nobody_knows_is_said_to_be_unknown(undecided: Inspection) -> None:
    found = printed(undecided, 100)
    assert all("unknown" in line for line in found.splitlines()[1:4])
    assert "3 BatchNorm; whether they fold is unknown without the code of the network" in found
    assert not {"stays", "stay", "fold ↑"} & set(found.split())


@pytest.mark.parametrize("width", [60, 80, 100])
def test_long_names_go_over_behind_a_separator(inspection: Inspection, width: int) -> None:
    name = "/backbone/stage_4/block_2/conv_dw/batch_norm/FusedBatchNormV3"
    reports = (replace(inspection.batch_norms[0], name=name),)
    lines = printed(replace(inspection, batch_norms=reports, findings=()), width).splitlines()
    shown = [line.split()[0] for line in lines[1 : lines.index("")]]
    assert "".join(shown) == name
    assert all(piece.endswith(("/", "_")) for piece in shown[:-1])


def test_one_value_is_no_range(inspection: Inspection) -> None:
    report = replace(inspection.batch_norms[0], mean=Range(0.0, 0.0), variance=Range(1.0, 1.0))
    row = printed(replace(inspection, batch_norms=(report,), findings=()), 110).splitlines()[1]
    assert row.split()[2:4] == ["0", "1"]


def test_paragraphs_have_no_blanks_at_their_ends(inspection: Inspection) -> None:
    lines = printed(inspection, 80).splitlines()
    assert not [line for line in lines if line.startswith("    ") and line != line.rstrip()]


def test_thousands_of_layers_stay_on_a_page(inspection: Inspection) -> None:
    reports = tuple(replace(inspection.batch_norms[i % 3], name=f"layer{i}") for i in range(3000))
    many = replace(inspection, batch_norms=reports, findings=())
    assert len(printed(many, 80).splitlines()) < 30
    assert "more" in printed(many, 80)
    assert layer_table(reports, (), 80, verbose=True).row_count == 3000
