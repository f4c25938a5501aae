"""``bnfold fold``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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
    SampleFlags,
    SubmoduleOption,
)
from bnfold.errors import TracingError, UsageError

if TYPE_CHECKING:
    from bnfold.data import SampleOptions
    from bnfold.formats import Model
    from bnfold.jobs import FoldResult


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
    submodule: SubmoduleOption = None,
    reparameterize: ReparameterizeOption = False,
) -> None:
    """Fold every BatchNorm of MODEL that can go exactly, prove it, and write the result."""
    from bnfold.jobs import fold as job
    from bnfold.jobs.common import DEFAULT_SAMPLES

    if output is None and not dry_run:
        raise UsageError("name the file to write with -o, or use --dry-run to see the plan")
    if output is not None and dry_run:
        raise UsageError("--dry-run writes nothing; leave it out, or leave out -o")
    check_paths(shown.report, model, source, data=data, output=output, force=force)
    sampling = sample.options(DEFAULT_SAMPLES)
    how = {"verified": verify, "strict": strict, "force": force, "reparameterize": reparameterize}
    if submodule and not keep_modules:
        raise UsageError("--submodule writes a state dict of the whole network; add --keep-modules")
    opened = None if submodule else _whole(source, model, data, sampling, or_parts=keep_modules)
    if opened is None:
        parts = source.open_parts(model, submodule or (), data, sampling)
        shown.finish(_fold_parts(parts, output, sampling, how))
        return
    result = job(opened, output, data=data, sampling=sampling, keep_modules=keep_modules, **how)
    shown.finish(result)


def _whole(
    source: ModelFlags, model: str, data: str | None, sampling: SampleOptions, *, or_parts: bool
) -> Model | None:
    """The model; None where it cannot be traced as a whole, and its parts will do."""
    try:
        return source.open(model, data, sampling)
    except TracingError:
        if not or_parts:
            raise
        return None


def _fold_parts(
    parts: Any, output: Path | None, sampling: SampleOptions, how: dict[str, bool]
) -> FoldResult:
    from bnfold.jobs.parts import fold_parts

    if output is None:  # a plan alone
        how = {**how, "verified": False}
    return fold_parts(parts, output, sampling=sampling, **how)[0]
