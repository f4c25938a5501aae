"""The text report: within the width of the terminal, the trouble first, short."""

from __future__ import annotations

import io
import re
from dataclasses import replace

import pytest
from rich.color import ColorSystem

from bnfold.jobs import Inspection
from bnfold.jobs.inspect import Range
from bnfold.reports import text
from bnfold.reports.findings import layer_table
from bnfold.reports.terminal import UNLIMITED, ReportConsole, name_table


def printed(result: Inspection, width: int | None, *, verbose: bool = False) -> str:
    stream = io.StringIO()
    text._render(result, ReportConsole(stream, width), verbose)
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


_LONG = "/backbone/stage_4/block_2/conv_dw/batch_norm/FusedBatchNormV3"


@pytest.mark.parametrize("width", [60, 80])
def test_long_names_are_cut_in_the_middle(inspection: Inspection, width: int) -> None:
    reports = (replace(inspection.batch_norms[0], name=_LONG),)
    row = printed(replace(inspection, batch_norms=reports, findings=()), width).splitlines()[1]
    head, tail = row.split()[0].split("…")
    assert _LONG.startswith(head) and _LONG.endswith(tail) and abs(len(head) - len(tail)) <= 1
    assert len(row) <= width


def test_in_a_pipe_names_stay_whole_and_lines_are_not_wrapped(inspection: Inspection) -> None:
    """However long: what is no terminal has no width."""
    long = "/".join([_LONG] * 9)
    reports = tuple(replace(r, name=f"{long}/{r.name}") for r in inspection.batch_norms)
    findings = tuple(replace(f, message=f"{f.message} {long * 3}.") for f in inspection.findings)
    found = printed(replace(inspection, batch_norms=reports, findings=findings), None)
    lines = found.splitlines()
    assert [line.split()[0] for line in lines[1:4]] and all(long in line for line in lines[1:4])
    assert all(line == line.rstrip() for line in lines)
    for finding in findings:
        assert not finding.layer or any(finding.message in line for line in lines)


def test_a_word_that_is_too_long_is_not_broken() -> None:
    stream = io.StringIO()
    ReportConsole(stream, 40).print(
        f"[bold]first[/] comes {_LONG}, and then a few words more of it"
    )
    assert stream.getvalue().splitlines() == [
        "first comes", f"{_LONG},", "and then a few words more of it"
    ]  # fmt: skip


def test_coloured_lines_have_no_blanks_at_their_ends() -> None:
    stream = io.StringIO()
    console = ReportConsole(stream, UNLIMITED)
    table = name_table("name")
    table.add_column("last")
    table.add_row("a", "[red]x[/]")
    table.add_row("b", "[on red]long[/] ")
    console._color_system = ColorSystem.STANDARD
    console.print(table)
    assert "\x1b[" in stream.getvalue()
    plain = re.sub(r"\x1b\[[0-9;]*m", "", stream.getvalue())
    assert all(line == line.rstrip() for line in plain.splitlines())


def test_one_value_is_no_range(inspection: Inspection) -> None:
    report = replace(inspection.batch_norms[0], mean=Range(0.0, 0.0), variance=Range(1.0, 1.0))
    row = printed(replace(inspection, batch_norms=(report,), findings=()), 110).splitlines()[1]
    assert row.split()[2:4] == ["0", "1"]


@pytest.mark.parametrize("width", [80, 140, None])
def test_lines_have_no_blanks_at_their_ends(inspection: Inspection, width: int | None) -> None:
    assert all(line == line.rstrip() for line in printed(inspection, width).splitlines())


def test_thousands_of_layers_stay_on_a_page(inspection: Inspection) -> None:
    reports = tuple(replace(inspection.batch_norms[i % 3], name=f"layer{i}") for i in range(3000))
    many = replace(inspection, batch_norms=reports, findings=())
    assert len(printed(many, 80).splitlines()) < 30
    assert "more" in printed(many, 80)
    assert layer_table(reports, (), 80, verbose=True).row_count == 3000
