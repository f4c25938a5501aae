"""Which rules run, and with which thresholds."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date
from fnmatch import fnmatchcase
from typing import Any

from bnfold.audit.finding import Finding
from bnfold.audit.rules import RULES, find_rule
from bnfold.audit.thresholds import Thresholds
from bnfold.errors import UsageError


@dataclass(frozen=True)
class Accepted:
    """Findings that somebody has looked at: of codes that begin so, in layers that ``layer`` (a glob)
    names; why, and where that is said. After ``until`` they are reported again."""

    code: str
    layer: str
    reason: str
    where: str = ""
    until: date | None = None

    @property
    def is_over(self) -> bool:
        return self.until is not None and date.today() > self.until

    def names(self, finding: Finding) -> bool:
        ours = finding.code.startswith(self.code)
        return ours and fnmatchcase(finding.layer or "", self.layer)

    def to_json(self) -> dict[str, str | None]:
        until = None if self.until is None else self.until.isoformat()
        return {"code": self.code, "layer": self.layer, "reason": self.reason, "until": until}


@dataclass(frozen=True)
class Suppressed:
    """A finding that is not reported: by what, and why where somebody said so."""

    finding: Finding
    by: str
    reason: str | None = None

    def to_json(self) -> dict[str, Any]:
        return {**self.finding.to_json(), "suppressed_by": self.by, "reason": self.reason}


@dataclass(frozen=True)
class Selection:
    """Prefixes of codes. An empty ``select`` means all; where both fit, the longer one decides.

    ``accepted`` are findings that are known; ``select_from`` and ``ignore_from`` say where those
    were set.
    """

    select: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    thresholds: Thresholds = field(default_factory=Thresholds)
    accepted: tuple[Accepted, ...] = ()
    select_from: str = field(default="select", compare=False)
    ignore_from: str = field(default="ignore", compare=False)

    def split(self, findings: Iterable[Finding]) -> tuple[list[Finding], list[Suppressed]]:
        """What is reported, and what is not, of the findings of all rules."""
        shown: list[Finding] = []
        hidden: list[Suppressed] = []
        for finding in findings:
            accepted = (each for each in self.accepted if each.names(finding) and not each.is_over)
            known = next(accepted, None)
            if not self.picks(finding.code):
                ignored = _longest(self.ignore, finding.code) >= 0
                hidden.append(
                    Suppressed(finding, self.ignore_from if ignored else self.select_from)
                )
            elif known is not None:
                hidden.append(Suppressed(finding, known.where, known.reason))
            else:
                shown.append(finding)
        return shown, hidden

    def expired(self, findings: Sequence[Finding]) -> tuple[str, ...]:
        """What to say of accepted ``findings`` whose day has passed."""
        found = []
        for each in filter(lambda a: a.is_over, self.accepted):
            count = sum(map(each.names, findings))
            if count:
                verb = "is" if count == 1 else "are"
                found.append(
                    f"{count} {each.code} {verb} reported again: accepted until {each.until} "
                    f"({each.reason}); {each.where}"
                )
        return tuple(found)

    def picks(self, code: str) -> bool:
        """Whether the rule of this code runs."""
        chosen = _longest(self.select, code) if self.select else 0
        return chosen >= 0 and chosen > _longest(self.ignore, code)


def _longest(prefixes: Iterable[str], code: str) -> int:
    return max((len(p) for p in prefixes if code.startswith(p)), default=-1)


def parse_codes(words: Iterable[str], option: str) -> tuple[str, ...]:
    """Prefixes from what a user wrote: ``BN1``, ``bn103,BN2``, ``dead-channels``.

    Raises:
        UsageError: where no rule begins so; ``option`` names the place.
    """
    found = []
    for word in (w.strip() for given in words for w in given.split(",")):
        if not word:
            continue
        rule = find_rule(word)
        code = rule.code if rule else word.upper()
        if not any(r.code.startswith(code) for r in RULES):
            raise UsageError(
                f"{option}: no rule is called {word}{_meant(word)}; `bnfold rule` lists them"
            )
        found.append(code)
    return tuple(found)


def unknown_rule(word: str) -> UsageError:
    """The error for a code that is none."""
    return UsageError(f"no rule is called {word}{_meant(word)}; `bnfold rule` lists them")


def _meant(word: str) -> str:
    known = [r.code for r in RULES] + [r.name for r in RULES]
    close = difflib.get_close_matches(word, known, 1) or difflib.get_close_matches(
        word.upper(), known, 1
    )
    return f" (did you mean {close[0]}?)" if close else ""
