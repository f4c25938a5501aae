"""SARIF 2.1.0, for code scanning services and editors.

The model file is the artifact and each BatchNorm a logical location in it. A finding keeps its
fingerprint while its rule and its layer stay the same, whatever the numbers in its message.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from bnfold.audit import RULES, Finding, Rule, Severity
from bnfold.jobs import Inspection

SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
_LEVELS = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.INFO: "note"}


def render(result: Inspection) -> str:
    """The findings as one SARIF document."""
    return json.dumps(document(result), indent=2, allow_nan=False) + "\n"


def document(result: Inspection) -> dict[str, Any]:
    """The same as data."""
    from bnfold import __version__

    driver = {"name": "bnfold", "version": __version__, "rules": [_rule(r) for r in RULES]}
    artifact = {
        "location": {"uri": artifact_uri(result.model.path)},
        "roles": ["analysisTarget"],
        "hashes": {"sha-256": result.model.sha256},
    }
    run = {
        "tool": {"driver": driver},
        "artifacts": [artifact],
        "results": list(_results(result.findings, result.model.path)),
        "columnKind": "utf16CodeUnits",
    }
    return {"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}


def _rule(rule: Rule) -> dict[str, Any]:
    parts = rule.parts
    text = "\n\n".join(f"{heading}\n{body}" for heading, body in parts.items())
    markdown = "\n\n".join(f"## {heading}\n\n{body}" for heading, body in parts.items())
    return {
        "id": rule.code,
        "name": rule.name,
        "shortDescription": {"text": rule.title},
        "fullDescription": {"text": " ".join(parts["What it does"].split())},
        "help": {"text": text, "markdown": markdown},
        "defaultConfiguration": {"level": _LEVELS[rule.severity]},
    }


def _results(findings: Sequence[Finding], path: str) -> Iterable[dict[str, Any]]:
    index = {rule.code: position for position, rule in enumerate(RULES)}
    seen: Counter[tuple[str, str | None]] = Counter()
    for finding in findings:
        key = finding.code, finding.layer
        seen[key] += 1
        yield {
            "ruleId": finding.code,
            "ruleIndex": index[finding.code],
            "level": _LEVELS[finding.severity],
            "message": {"text": _message(finding)},
            "locations": [_location(finding, path)],
            "partialFingerprints": {"bnfoldFinding/v1": fingerprint(*key, seen[key])},
        }


def _message(finding: Finding) -> str:
    return finding.message if finding.layer is None else f"{finding.layer}: {finding.message}"


def _location(finding: Finding, path: str) -> dict[str, Any]:
    physical = {
        "artifactLocation": {"uri": artifact_uri(path), "index": 0},
        # A model has no lines, but code scanning services show no result without one.
        "region": {"startLine": 1},
    }
    location: dict[str, Any] = {"physicalLocation": physical}
    if finding.layer is not None:
        location["logicalLocations"] = [
            {"name": finding.layer, "fullyQualifiedName": finding.layer, "kind": "member"}
        ]
    return location


def fingerprint(code: str, layer: str | None, occurrence: int) -> str:
    """The same for the same rule on the same layer, through all versions of the file."""
    text = f"{code}\n{layer or ''}\n{occurrence}"
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def artifact_uri(path: str) -> str:
    """Relative to the working directory where the file lies below it, as services want it."""
    file = Path(path)
    if not file.is_absolute():
        return quote(file.as_posix())
    try:
        return quote(file.relative_to(Path.cwd()).as_posix())
    except ValueError:
        return file.as_uri()
