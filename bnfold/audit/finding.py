"""One finding: what a rule has to say about a layer or a model."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Any


class Severity(str, Enum):
    """How bad a finding is; the members stand from worst to mildest."""

    ERROR = "error"
    WARNING = "warning"
    INFO = "info"

    @property
    def rank(self) -> int:
        """0 for the worst: the order in which reports list them."""
        return list(Severity).index(self)


@dataclass(frozen=True)
class Finding:
    """What one rule found in one layer (``layer`` None: in the model as a whole).

    ``channels`` are the indices of the channels concerned, where the finding is about some of them;
    ``size`` orders the findings of one rule by trouble and has no unit.
    """

    code: str
    severity: Severity
    layer: str | None
    message: str
    name: str = ""
    channels: tuple[int, ...] = ()
    size: float = 0.0

    def to_json(self) -> dict[str, Any]:
        return {
            "code": self.code,
            "name": self.name,
            "severity": self.severity.value,
            "layer": self.layer,
            "message": self.message,
            "channels": list(self.channels),
        }


@dataclass(frozen=True)
class Group:
    """The findings of one rule at one severity, the worst first."""

    code: str
    name: str
    severity: Severity
    findings: tuple[Finding, ...]

    @property
    def worst(self) -> Finding:
        return self.findings[0]

    @property
    def layers(self) -> tuple[str, ...]:
        """The layers concerned, the worst first; empty where the model as a whole is."""
        return tuple(f.layer for f in self.findings if f.layer is not None)


def grouped(findings: Iterable[Finding]) -> tuple[Group, ...]:
    """Findings by severity and rule: a net of a thousand layers still has a page of groups."""
    groups: dict[tuple[int, str], list[Finding]] = {}
    for finding in findings:
        groups.setdefault((finding.severity.rank, finding.code), []).append(finding)
    return tuple(
        Group(code, members[0].name, members[0].severity, _worst_first(members))
        for (_, code), members in sorted(groups.items())
    )


def _worst_first(findings: list[Finding]) -> tuple[Finding, ...]:
    return tuple(sorted(findings, key=lambda f: -f.size))


def tally(findings: Iterable[Finding]) -> dict[Severity, int]:
    """How many findings there are of each severity, the worst first."""
    counts = dict.fromkeys(Severity, 0)
    for finding in findings:
        counts[finding.severity] += 1
    return counts


def in_words(findings: Iterable[Finding]) -> str:
    """``1 error, 3 warnings, 2 notes``, or ``no findings``."""
    words = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.INFO: "note"}
    parts = [
        f"{count} {words[severity]}{'' if count == 1 else 's'}"
        for severity, count in tally(findings).items()
        if count
    ]
    return ", ".join(parts) or "no findings"
