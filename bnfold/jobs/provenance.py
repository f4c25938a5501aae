"""Where an output comes from, for the file itself to say: the same for the same input, always."""

from __future__ import annotations

from collections.abc import Mapping

from bnfold.formats import Model
from bnfold.version import __version__

PREFIX = "bnfold."


def provenance_of(model: Model, verdict: str) -> Mapping[str, str]:
    """Entries for a file that a command writes.

    Args:
        model: what it is made of.
        verdict: of the check that it is only kept after, or that there was none.
    """
    return {
        f"{PREFIX}version": __version__,
        f"{PREFIX}source_sha256": model.sha256,
        f"{PREFIX}verdict": verdict,
    }
