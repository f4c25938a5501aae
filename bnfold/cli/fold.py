"""``bnfold fold``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bnfold.cli.options import (
    DataOption,
    Format,
    FormatOption,
    FreezeOption,
    InputOption,
    ModelArgument,
    PickleOption,
    ReparameterizeOption,
    ReportOption,
    VerboseOption,
    WeightsOption,
    check_page,
    check_together,
    finish,
    open_argument,
)


def fold(
    model: ModelArgument,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="The file to write.", show_default=False),
    ] = None,
    data: DataOption = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the plan, write nothing.")
    ] = False,
    verify: Annotated[
        bool,
        typer.Option(
            "--verify/--no-verify", help="Prove with onnxruntime that the outputs are the same."
        ),
    ] = True,
    strict: Annotated[
        bool, typer.Option("--strict", help="Write nothing where a BatchNorm has to stay; exit 1.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Allow -o to name MODEL itself.")] = False,
    keep_modules: Annotated[
        bool,
        typer.Option(
            "--keep-modules",
            help="Write a state dict that loads into the unchanged class.",
            rich_help_panel="PyTorch models",
        ),
    ] = False,
    weights: WeightsOption = None,
    inputs: InputOption = None,
    allow_pickle: PickleOption = False,
    freeze_initializers: FreezeOption = False,
    reparameterize: ReparameterizeOption = False,
    format: FormatOption = Format.TEXT,
    report: ReportOption = None,
    verbose: VerboseOption = False,
) -> None:
    """Fold every BatchNorm of MODEL that can go exactly, prove it, and write the result."""
    from bnfold.jobs import fold as job

    check_together(
        (output is None) == dry_run,
        "name the file to write with -o, or use --dry-run to see the plan (not both)",
    )
    check_page(report)
    opened = open_argument(
        model,
        freeze_initializers=freeze_initializers,
        weights=weights,
        inputs=inputs,
        allow_pickle=allow_pickle,
    )
    result = job(
        opened,
        output,
        data=data,
        verified=verify,
        strict=strict,
        force=force,
        reparameterize=reparameterize,
        keep_modules=keep_modules,
    )
    finish(result, format, verbose=verbose, report=report)
