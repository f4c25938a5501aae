"""Options that several commands share, so that they mean the same everywhere."""

from __future__ import annotations

from enum import Enum
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import typer

from bnfold.errors import MissingExtraError, OutputError, UsageError


class Format(str, Enum):
    """How a report is printed."""

    TEXT = "text"
    JSON = "json"


ModelArgument = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="A model file, or package.module:factory or file.py:factory for a PyTorch module.",
        show_default=False,
    ),
]
FormatOption = Annotated[
    Format, typer.Option("--format", "-f", help="How the report on stdout is printed.")
]
DataOption = Annotated[
    str | None,
    typer.Option(
        "--data",
        metavar="SOURCE",
        help="Inputs to compare on: .npz, .npy, images, a folder of these, or file.py:callable.",
        show_default="made from the input signature",
    ),
]
FreezeOption = Annotated[
    bool,
    typer.Option(
        "--freeze-initializers",
        help="Take initializers that are also graph inputs for constants.",
    ),
]
_TORCH = "PyTorch models"
WeightsOption = Annotated[
    Path | None,
    typer.Option(
        "--weights", help="A checkpoint for the module of a factory.", rich_help_panel=_TORCH
    ),
]
InputOption = Annotated[
    list[str] | None,
    typer.Option(
        "--input",
        metavar="[NAME=]SHAPE[:DTYPE]",
        help="An example input such as 1x3x224x224; may be repeated.",
        rich_help_panel=_TORCH,
    ),
]
PickleOption = Annotated[
    bool,
    typer.Option(
        "--allow-pickle",
        help="Load pickled Python objects, which runs code from the file.",
        rich_help_panel=_TORCH,
    ),
]
ReportOption = Annotated[
    Path | None,
    typer.Option("--report", metavar="PAGE.html", help="Also write a page with charts."),
]
VerboseOption = Annotated[bool, typer.Option("--verbose", "-v", help="Show every layer.")]
ReparameterizeOption = Annotated[
    bool,
    typer.Option("--reparameterize", help="Merge parallel linear branches (RepVGG) into one."),
]


def open_argument(
    model: str,
    *,
    freeze_initializers: bool = False,
    weights: Path | None = None,
    inputs: list[str] | None = None,
    allow_pickle: bool = False,
) -> Any:
    """Opens what a MODEL argument names."""
    from bnfold.formats import open_model

    return open_model(
        model,
        freeze_initializers=freeze_initializers,
        weights=weights,
        inputs=tuple(inputs or ()),
        allow_pickle=allow_pickle,
    )


def finish(
    result: Any, format: Format, *, verbose: bool = False, report: Path | None = None
) -> None:
    """Prints a result, writes its page, and exits with 1 where it is not ok."""
    from bnfold.reports import show

    if report is not None:
        from bnfold.reports.html import write_page

        write_page(result, report)
    show(result, format.value, verbose=verbose)
    if not getattr(result, "ok", True):
        raise typer.Exit(1)


def check_page(report: Path | None) -> None:
    """Refuses a page that could not be written, before anything else is done.

    Raises:
        MissingExtraError: where Jinja2 is not installed.
        OutputError: where the folder of the page does not exist.
    """
    if report is None:
        return
    if find_spec("jinja2") is None:
        raise MissingExtraError("--report", "html")
    if report.is_dir() or not report.parent.is_dir():
        raise OutputError(f"{report} cannot be written; name a file in an existing folder")


def check_together(condition: bool, sentence: str) -> None:
    """Refuses options that contradict each other."""
    if not condition:
        raise UsageError(sentence)
