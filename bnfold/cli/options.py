"""Options that several commands share, so that they mean the same everywhere."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer

from bnfold.errors import UsageError


class Format(str, Enum):
    """How a report is printed."""

    TEXT = "text"
    JSON = "json"


ModelArgument = Annotated[
    str, typer.Argument(metavar="MODEL", help="The model file.", show_default=False)
]
FormatOption = Annotated[
    Format, typer.Option("--format", "-f", help="How the report on stdout is printed.")
]
DataOption = Annotated[
    Path | None,
    typer.Option("--data", help="Inputs to compare on: .npz with arrays named as the inputs, or .npy.",
                 show_default="made from the input signature"),
]  # fmt: skip
FreezeOption = Annotated[
    bool,
    typer.Option(
        "--freeze-initializers",
        help="Take initializers that are also graph inputs for constants.",
    ),
]
VerboseOption = Annotated[bool, typer.Option("--verbose", "-v", help="Show every layer.")]
ReparameterizeOption = Annotated[
    bool,
    typer.Option("--reparameterize", help="Merge parallel linear branches (RepVGG) into one."),
]


def open_argument(model: str, *, freeze_initializers: bool = False) -> Any:
    """Opens what a MODEL argument names."""
    from bnfold.formats import open_model

    return open_model(Path(model), freeze_initializers=freeze_initializers)


def finish(result: Any, format: Format, *, verbose: bool = False) -> None:
    """Prints a result and exits with 1 where it is not ok."""
    from bnfold.reports import show

    show(result, format.value, verbose=verbose)
    if not getattr(result, "ok", True):
        raise typer.Exit(1)


def check_together(condition: bool, sentence: str) -> None:
    """Refuses options that contradict each other."""
    if not condition:
        raise UsageError(sentence)
