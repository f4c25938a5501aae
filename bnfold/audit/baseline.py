"""What was found before: a document of `inspect --format json`, whose findings are known."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bnfold.audit.finding import Finding, Severity
from bnfold.audit.selection import Suppressed
from bnfold.errors import UsageError
from bnfold.files import check_regular, missing

Key = tuple[str, str | None]


@dataclass(frozen=True)
class Baseline:
    """The findings of one model or of several, by its path; that of a single one serves any model."""

    file: Path
    known: Mapping[str, Mapping[Key, int]]

    @classmethod
    def read(cls, file: Path) -> Baseline:
        """Reads a document.

        Raises:
            UsageError: where it is none of `inspect`.
        """
        if not file.is_file():
            raise UsageError(missing(file, "check --baseline"))
        check_regular(file, UsageError)
        try:
            document = json.loads(file.read_text(encoding="utf-8"))
            reports = document.get("models", [document])
            known = {r["model"]["path"]: _keys(r.get("findings", ())) for r in reports}
            is_ours = document["command"] == "inspect"
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            is_ours = False
        if not is_ours:
            raise UsageError(
                f"{file} is no baseline; `bnfold inspect MODEL --format json` prints one"
            )
        return cls(file, known)

    def split(
        self, path: str, findings: Iterable[Finding]
    ) -> tuple[list[Finding], list[Suppressed]]:
        """What is new in the model at ``path``, and what was known: found before, and no milder."""
        (single, *others) = self.known.values() or ({},)
        known = self.known.get(path, {} if others else single)
        new: list[Finding] = []
        old: list[Suppressed] = []
        for finding in findings:
            before = known.get((finding.code, finding.layer))
            if before is not None and before <= finding.severity.rank:
                old.append(Suppressed(finding, f"the baseline {self.file}"))
            else:
                new.append(finding)
        return new, old


def _keys(findings: Iterable[Mapping[str, Any]]) -> dict[Key, int]:
    """The worst severity of each rule in each layer."""
    found: dict[Key, int] = {}
    for each in findings:
        key = each["code"], each["layer"]
        rank = Severity(each["severity"]).rank
        found[key] = min(rank, found.get(key, rank))
    return found
