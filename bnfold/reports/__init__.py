"""Reports: one file per format. A report goes to stdout and nothing else does."""

from __future__ import annotations

import json
import sys
from typing import Any


def show(result: Any, format: str, *, verbose: bool = False) -> None:
    """Prints a job's result.

    Args:
        result: what a job returned.
        format: ``text`` or ``json``.
        verbose: every layer instead of a summary (text only).
    """
    if format == "json":
        json.dump(result.to_json(), sys.stdout, indent=2, allow_nan=False)
        sys.stdout.write("\n")
        return
    from bnfold.reports.text import render

    render(result, verbose=verbose)
