"""``bnfold inspect``."""

from __future__ import annotations

import sys
from enum import Enum
from typing import TYPE_CHECKING, Annotated

import typer

from bnfold.cli.destinations import check_paths
from bnfold.cli.groups import grouped
from bnfold.cli.model_options import MaskFlags, ModelFlags
from bnfold.cli.options import (
    DATA_KINDS,
    ModelArgument,
    ReparameterizeOption,
    ReportOption,
    RuntimeFlags,
    SampleFlags,
    VerboseOption,
    write_page,
)
from bnfold.cli.streams import print_report

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


@grouped
def inspect(
    model: ModelArgument,
    sample: SampleFlags,
    masks: MaskFlags,
    source: ModelFlags,
    runtime: RuntimeFlags,
    format: Annotated[
        Format, typer.Option("--format", "-f", help="How the report on stdout is printed.")
    ] = Format.TEXT,
    report: ReportOption = None,
    data: Annotated[
        str | None,
        typer.Option(
            help=f"A sample to compare the stored statistics with (rules BN4): {DATA_KINDS}.",
            metavar="SOURCE",
        ),
    ] = None,
    select: Annotated[
        Codes, typer.Option(help="Rules to run: codes or their beginnings, as BN1,BN203.")
    ] = None,
    ignore: Annotated[Codes, typer.Option(help="Rules to leave out.")] = None,
    fail_on: Annotated[
        FailOnChoice | None,
        typer.Option(help="Exit with 1 on findings this bad.", show_default="error"),
    ] = None,
    reparameterize: ReparameterizeOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Report every BatchNorm of MODEL: its statistics, what is wrong, and what can become of it."""
    from bnfold.audit import FailOn, load_settings
    from bnfold.cli.progress import progress_bar
    from bnfold.jobs import inspect as job
    from bnfold.jobs.inspect import DEFAULT_SAMPLES

    settings = load_settings().overridden(
        select, ignore, FailOn(fail_on.value) if fail_on else None
    )
    check_paths(report, model, source, data=data)
    sampling = masks.on(sample.options(DEFAULT_SAMPLES))
    opened = source.open(model, data, sampling)
    with progress_bar() as progress:
        result = job(
            opened,
            reparameterize=reparameterize,
            selection=settings.selection,
            data=data,
            sampling=sampling,
            runtime=runtime.options(),
            progress=progress,
        )
    write_page(result, report)
    print_report(
        lambda: _show(result, format, verbose=verbose), None if report is None else str(report)
    )
    if settings.fail_on.concerns(result.findings):
        raise typer.Exit(1)


def _show(result: Inspection, format: Format, *, verbose: bool) -> None:
    if format in (Format.TEXT, Format.JSON):
        from bnfold.reports import show

        show(result, format.value, verbose=verbose)
        return
    from bnfold.reports import github, markdown, sarif

    module = {Format.SARIF: sarif, Format.GITHUB: github, Format.MARKDOWN: markdown}[format]
    sys.stdout.write(module.render(result))
