"""Workflow commands that GitHub Actions shows as annotations.

One for each rule, not for each layer: GitHub shows ten of a kind per step and drops the rest.
"""

from __future__ import annotations

from bnfold.audit import Group, Severity, find_rule, grouped
from bnfold.jobs import Inspection
from bnfold.reports.artifact import artifact_of
from bnfold.showable import showable

_COMMANDS = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.INFO: "notice"}
_LAYERS = 8


def render(result: Inspection) -> str:
    """One line for each rule that found something; empty where none did."""
    return "".join(
        f"{_annotation(group, str(artifact_of(result.model)))}\n"
        for group in grouped(result.findings)
    )


def _annotation(group: Group, path: str) -> str:
    file, title = _property(showable(path)), _property(f"{group.code} {group.name}")
    return f"::{_COMMANDS[group.severity]} file={file},title={title}::{_data(_text(group))}"


def _text(group: Group) -> str:
    rule = find_rule(group.code)
    lines = [group.worst.message]
    if group.layers:
        more = len(group.layers) - _LAYERS
        names = ", ".join(group.layers[:_LAYERS]) + (f" and {more} more" if more > 0 else "")
        lines.append(f"Layers: {names}.")
    if rule is not None:
        lines.append(rule.remedy)
    return "\n".join(map(showable, lines))


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
