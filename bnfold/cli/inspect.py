"""``bnfold inspect``."""

from __future__ import annotations

from bnfold.cli.options import (
    Format,
    FormatOption,
    FreezeOption,
    ModelArgument,
    ReparameterizeOption,
    VerboseOption,
    finish,
    open_argument,
)


def inspect(
    model: ModelArgument,
    format: FormatOption = Format.TEXT,
    freeze_initializers: FreezeOption = False,
    reparameterize: ReparameterizeOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Report every BatchNorm of MODEL: its statistics, and what can become of it."""
    from bnfold.jobs import inspect as job

    opened = open_argument(model, freeze_initializers=freeze_initializers)
    finish(job(opened, reparameterize=reparameterize), format, verbose=verbose)
