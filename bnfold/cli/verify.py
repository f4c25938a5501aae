"""``bnfold verify``."""

from __future__ import annotations

from typing import Annotated

import typer

from bnfold.cli.options import DataOption, Format, FormatOption, finish, open_argument


def verify(
    reference: Annotated[str, typer.Argument(metavar="REFERENCE", help="The model to trust.")],
    candidate: Annotated[str, typer.Argument(metavar="CANDIDATE", help="The model to compare.")],
    data: DataOption = None,
    format: FormatOption = Format.TEXT,
) -> None:
    """Compare two models on the same inputs, the reference's own rounding as the yardstick."""
    from bnfold.jobs import verify as job

    finish(job(open_argument(reference), open_argument(candidate), data=data), format)
