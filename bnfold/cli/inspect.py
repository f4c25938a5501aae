"""``bnfold inspect``."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bnfold.cli.options import (
    FreezeOption,
    InputOption,
    ModelArgument,
    PickleOption,
    ReparameterizeOption,
    VerboseOption,
    WeightsOption,
    check_page,
    open_argument,
)

if TYPE_CHECKING:
    from bnfold.jobs import Inspection


class Format(str, Enum):
    """How the findings are printed."""

    TEXT = "text"
    JSON = "json"
    SARIF = "sarif"
    GITHUB = "github"
    MARKDOWN = "markdown"


class FailOnChoice(str, Enum):
    """From which severity on the exit code is 1."""

    ERROR = "error"
    WARNING = "warning"
    NEVER = "never"


Codes = list[str] | None


def inspect(
    model: ModelArgument,
    format: Annotated[
        Format, typer.Option("--format", "-f", help="How the report on stdout is printed.")
    ] = Format.TEXT,
    report: Annotated[
        Path | None,
        typer.Option("--report", help="Also write a page with charts.", metavar="PAGE.html"),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            help="A sample to compare the stored statistics with (rules BN4).", metavar="SOURCE"
        ),
    ] = None,
    samples: Annotated[
        int | None,
        typer.Option(help="How many samples of --data to take.", min=1, show_default="512, or all"),
    ] = None,
    select: Annotated[
        Codes, typer.Option(help="Rules to run: codes or their beginnings, as BN1,BN203.")
    ] = None,
    ignore: Annotated[Codes, typer.Option(help="Rules to leave out.")] = None,
    fail_on: Annotated[
        FailOnChoice | None,
        typer.Option(help="Exit with 1 on findings this bad.", show_default="error"),
    ] = None,
    weights: WeightsOption = None,
    inputs: InputOption = None,
    allow_pickle: PickleOption = False,
    freeze_initializers: FreezeOption = False,
    reparameterize: ReparameterizeOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Report every BatchNorm of MODEL: its statistics, what is wrong, and what can become of it."""
    from bnfold.audit import FailOn, load_settings
    from bnfold.cli.progress import progress_bar
    from bnfold.data import SampleOptions
    from bnfold.jobs import inspect as job
    from bnfold.jobs.inspect import DEFAULT_SAMPLES

    settings = load_settings().overridden(
        select, ignore, FailOn(fail_on.value) if fail_on else None
    )
    check_page(report)
    opened = open_argument(
        model,
        freeze_initializers=freeze_initializers,
        weights=weights,
        inputs=inputs,
        allow_pickle=allow_pickle,
    )
    with progress_bar() as progress:
        result = job(
            opened,
            reparameterize=reparameterize,
            selection=settings.selection,
            data=data,
            sampling=SampleOptions(samples=samples or DEFAULT_SAMPLES),
            progress=progress,
        )
    if report is not None:
        from bnfold.reports.html import write_page

        write_page(result, report)
    _show(result, format, verbose=verbose)
    if settings.fail_on.concerns(result.findings):
        raise typer.Exit(1)


def _show(result: Inspection, format: Format, *, verbose: bool) -> None:
    if format in (Format.TEXT, Format.JSON):
        from bnfold.reports import show

        show(result, format.value, verbose=verbose)
        return
    from bnfold.reports import github, markdown, sarif

    module = {Format.SARIF: sarif, Format.GITHUB: github, Format.MARKDOWN: markdown}[format]
    typer.echo(module.render(result), nl=False)
