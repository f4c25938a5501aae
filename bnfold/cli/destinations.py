"""Refusing destinations before anything else is done."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

from bnfold.cli.model_options import ModelFlags
from bnfold.errors import MissingExtraError, OutputError
from bnfold.files import Use, check_destination


def check_paths(
    report: Path | None,
    model: str,
    source: ModelFlags,
    *,
    data: str | None = None,
    output: Path | None = None,
    force: bool = False,
) -> None:
    """Refuses paths that must not or cannot be written, before anything else is done.

    Raises:
        MissingExtraError: where the page needs Jinja2, which is not installed.
        OutputError: with the path and what to do.
    """
    uses = [Use(Path(model), "the input itself", replaceable=True)]
    if source.weights is not None:
        uses.append(Use(source.weights, "the weights", replaceable=True))
    if data is not None:
        uses.append(Use(Path(data), "the data"))
    if output is not None:
        check_destination(output, "-o", uses, force=force)
        uses.append(Use(output, "the output of this command"))
    if report is not None:
        _check_page(report, uses)


def _check_page(report: Path, uses: Sequence[Use]) -> None:
    if find_spec("jinja2") is None:
        raise MissingExtraError("--report", "html")
    check_destination(report, "--report", (replace(use, replaceable=False) for use in uses))
    if report.suffix.lower() not in (".html", ".htm"):
        raise OutputError(f"{report} is to be a page; name it PAGE.html")
