"""Option groups: a command takes a dataclass, and typer sees its fields."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Annotated, get_origin

import pytest
import typer
from typer.testing import CliRunner

from bnfold.cli.fold import fold
from bnfold.cli.groups import grouped
from bnfold.cli.inspect import inspect as inspect_command
from bnfold.cli.recalibrate import recalibrate
from bnfold.cli.verify import verify


@dataclass(frozen=True)
class Flags:
    size: Annotated[int, typer.Option("--size", "-s")] = 3
    name: Annotated[str | None, typer.Option("--name", "-n")] = None


@grouped
def command(
    first: str, flags: Flags, last: Annotated[str | None, typer.Option("-l")] = None
) -> None:
    print(first, flags.size, flags.name, last)


@pytest.mark.parametrize(
    ("arguments", "printed"),
    [
        (["a"], "a 3 None None"),
        (["a", "-s", "5", "-n", "b", "-l", "c"], "a 5 b c"),
    ],
)
def test_fields_are_options(arguments: list[str], printed: str) -> None:
    app = typer.Typer()
    app.command()(command)
    outcome = CliRunner().invoke(app, arguments)
    assert outcome.exit_code == 0 and outcome.output.strip() == printed


@pytest.mark.parametrize("each", [fold, inspect_command, recalibrate, verify])
def test_every_option_keeps_its_description(each: object) -> None:
    """Python 3.10 would wrap what has None for a default, and typer find no description in it."""
    parameters = inspect.signature(each).parameters.values()  # type: ignore[arg-type]
    assert all(get_origin(p.annotation) is Annotated for p in parameters)
