"""A rule: one code, one check, and a docstring that is its documentation."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bnfold.audit.finding import Finding, Severity

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from bnfold.audit.subject import Layer, Subject
    from bnfold.planning import Reason

PARTS = ("What it does", "Why it matters", "What to do")


@dataclass(frozen=True)
class Hit:
    """What a check found: the sentence, and where. The rule adds its code and severity."""

    message: str
    layer: str | None = None
    size: float = 0.0
    channels: tuple[int, ...] = ()
    severity: Severity | None = None


Check = Callable[["Subject"], Iterable[Hit]]


@dataclass(frozen=True)
class Rule:
    """One rule of the audit.

    Args:
        code: ``BN`` and three digits; the first digit is the family.
        name: a few words with hyphens.
        severity: of its findings, where the check does not say otherwise.
        check: yields hits.
        doc: the docstring of its module: a title, then the three `PARTS`.
        thresholds: names of the settings that it compares with.
        reasons: the plan's reasons that this rule reports.
    """

    code: str
    name: str
    severity: Severity
    check: Check
    doc: str | None
    thresholds: tuple[str, ...] = ()
    reasons: tuple[Reason, ...] = ()

    @property
    def title(self) -> str:
        return (self.doc or "").strip().splitlines()[0].rstrip(".")

    @property
    def parts(self) -> dict[str, str]:
        """The documentation by heading; paragraphs are separated by a blank line."""
        lines = inspect.cleandoc(self.doc or "").splitlines()
        found: dict[str, list[str]] = {}
        current: list[str] = []
        for line in lines[1:]:
            if line in PARTS:
                current = found.setdefault(line, [])
            elif line.strip("-") or not line:
                current.append(line)
        return {heading: "\n".join(text).strip() for heading, text in found.items()}

    @property
    def remedy(self) -> str:
        """What to do, in one sentence: the first of that part."""
        text = " ".join(self.parts.get("What to do", "").split())
        end = text.find(". ")
        return text if end < 0 else text[: end + 1]

    def findings(self, subject: Subject) -> Iterable[Finding]:
        for hit in self.check(subject):
            yield Finding(
                self.code,
                hit.severity or self.severity,
                hit.layer,
                hit.message,
                self.name,
                hit.channels,
                hit.size,
            )


def on_channels(layer: Layer, mask: NDArray[np.bool_], text: str, size: float | None = None) -> Hit:
    """A hit on the channels of ``mask``; ``{n}`` in the text becomes ``3 of 64 channels``."""
    channels = tuple(int(i) for i in mask.nonzero()[0])
    message = text.replace("{n}", some_channels(len(channels), mask.size))
    return Hit(message, layer.name, len(channels) if size is None else size, channels)


def some_channels(count: int, total: int) -> str:
    if count == total:
        return "every channel" if total > 1 else "its channel"
    return f"{count} of {total} channels"


def number(value: float) -> str:
    """Three digits, or all before the point where there are more: ``0.976``, ``64,882``."""
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"


def counted(count: int, what: str) -> str:
    """``1 layer``, ``3 layers``."""
    return f"{count} {what}{'' if count == 1 else 's'}"


def listed(names: Sequence[str], most: int = 3) -> str:
    """``a, b, c and 9 more``."""
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"


def kept_for(*reasons: Reason) -> Check:
    """The check of a rule that hands on the plan's reason for keeping a layer."""

    def check(subject: Subject) -> Iterable[Hit]:
        for layer in subject.layers:
            if layer.reason in reasons:
                yield Hit(sentence_of(layer), layer.name)

    return check


def sentence_of(layer: Layer) -> str:
    """The plan's sentence, as one that stands alone."""
    text = layer.sentence
    return f"Stays in the graph: {text}." if text else ""
