"""``bnfold fold``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bnfold.cli.destinations import check_paths
from bnfold.cli.groups import grouped
from bnfold.cli.model_options import ModelFlags
from bnfold.cli.options import (
    ForceOption,
    InputData,
    ModelArgument,
    OutputFlags,
    ReparameterizeOption,
    RestForm,
    RestOption,
    SampleFlags,
)
from bnfold.errors import UsageError


@grouped
def fold(
    model: ModelArgument,
    sample: SampleFlags,
    source: ModelFlags,
    shown: OutputFlags,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="The file to write.", show_default=False),
    ] = None,
    data: InputData = None,
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
    force: ForceOption = False,
    keep_modules: Annotated[
        bool,
        typer.Option(
            "--keep-modules",
            help="Write a state dict that loads into the unchanged class.",
            rich_help_panel="PyTorch models",
        ),
    ] = False,
    reparameterize: ReparameterizeOption = False,
    rest: RestOption = RestForm.KEEP,
) -> None:
    """Fold every BatchNorm of MODEL that can go exactly, prove it, and write the result."""
    from bnfold.jobs import fold as job
    from bnfold.jobs.common import DEFAULT_SAMPLES
    from bnfold.planning import Rest

    if output is None and not dry_run:
        raise UsageError("name the file to write with -o, or use --dry-run to see the plan")
    if output is not None and dry_run:
        raise UsageError("--dry-run writes nothing; leave it out, or leave out -o")
    check_paths(shown.report, model, source, data=data, output=output, force=force)
    sampling = sample.options(DEFAULT_SAMPLES)
    result = job(
        source.open(model, data, sampling),
        output,
        data=data,
        sampling=sampling,
        verified=verify,
        strict=strict,
        force=force,
        reparameterize=reparameterize,
        keep_modules=keep_modules,
        rest=Rest(rest.value),
    )
    shown.finish(result)
