"""What every JSON document of the command line says of the run that made it."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

from bnfold.jobs.common import FORMAT_VERSION
from bnfold.version import __version__

Document = Mapping[str, Any]


def head(command: str, configuration: Document | None = None) -> dict[str, Any]:
    """The first entries of a document.

    Args:
        command: which command it is of.
        configuration: the settings in use, and the file that they are from.
    """
    return {
        "format_version": FORMAT_VERSION,
        "command": command,
        "tool": {"name": "bnfold", "version": __version__},
        "created": created(),
        "command_line": ["bnfold", *sys.argv[1:]],
        "configuration": configuration,
    }


def created() -> str:
    """Now, in UTC; SOURCE_DATE_EPOCH stands for it where builds are to be reproducible."""
    epoch = os.environ.get("SOURCE_DATE_EPOCH", "")
    now = datetime.now(timezone.utc)
    when = datetime.fromtimestamp(int(epoch), timezone.utc) if epoch.isdigit() else now
    return when.replace(microsecond=0).isoformat().replace("+00:00", "Z")


def together(first: Document, documents: Sequence[Document]) -> dict[str, Any]:
    """One document: that of one model as it is, several under ``models`` with a summary of all."""
    bodies = [
        {k: v for k, v in d.items() if k not in ("format_version", "command")} for d in documents
    ]
    failed = sum("error" in body for body in bodies)
    summaries = [body["summary"] for body in bodies if "summary" in body]
    return {**first, "models": bodies, "summary": total(summaries, failed)}


def total(summaries: Sequence[Mapping[str, int]], failed: int) -> dict[str, int]:
    """Counts over all models."""
    counts = {"models": len(summaries) + failed, "failed": failed}
    for summary in summaries:
        for key, count in summary.items():
            counts[key] = counts.get(key, 0) + count
    return counts
