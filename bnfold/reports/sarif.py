"""SARIF 2.1.0, for code scanning services and editors.

The model file is the artifact and each BatchNorm a logical location in it. A finding keeps its
fingerprint while its rule and its layer stay the same, whatever the numbers in its message. What
GitHub asks for beyond the standard is in its documentation under "SARIF support for code scanning".
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from bnfold.audit import FAMILIES, RULES, Finding, Rule, Severity
from bnfold.jobs import Inspection
from bnfold.reports import json_text
from bnfold.reports.artifact import artifact_of, is_code
from bnfold.showable import showable

SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
_ROOT = "%SRCROOT%"
_LEVELS = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.INFO: "note"}
_PROBLEMS = {**_LEVELS, Severity.INFO: "recommendation"}


def render(*results: Inspection) -> str:
    """The findings as one SARIF document, a run for each model."""
    runs = [_run(result) for result in results]
    return json_text({"$schema": SCHEMA, "version": "2.1.0", "runs": runs})


def _run(result: Inspection) -> dict[str, Any]:
    from bnfold.version import __version__

    driver = {"name": "bnfold", "version": __version__, "rules": [_rule(r) for r in RULES]}
    place = artifact_location(artifact_of(result.model))
    artifact: dict[str, Any] = {"location": place, "roles": ["analysisTarget"]}
    if not is_code(result.model):  # there, the hash is that of the weights
        artifact["hashes"] = {"sha-256": result.model.sha256}
    return {
        "tool": {"driver": driver},
        # A category of its own for each model: results of several in one upload live side by side.
        "automationDetails": {"id": f"bnfold/{place['uri']}/"},
        "originalUriBaseIds": {_ROOT: {"description": {"text": "The folder bnfold was run in."}}},
        "artifacts": [artifact],
        # What is suppressed is left out: GitHub does not heed `suppressions`.
        "results": list(_results(result.findings, place)),
        "columnKind": "utf16CodeUnits",
    }


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
        "properties": {
            "tags": ["batch-normalization", FAMILIES[rule.code[:3]]],
            "problem.severity": _PROBLEMS[rule.severity],
        },
    }


def _results(findings: Sequence[Finding], place: dict[str, str]) -> Iterable[dict[str, Any]]:
    index = {rule.code: position for position, rule in enumerate(RULES)}
    seen: Counter[tuple[str, str | None]] = Counter()
    for finding in findings:
        key = finding.code, finding.layer
        seen[key] += 1
        mark = fingerprint(*key, seen[key])
        yield {
            "ruleId": finding.code,
            "ruleIndex": index[finding.code],
            "level": _LEVELS[finding.severity],
            "message": {"text": _message(finding)},
            "locations": [_location(finding, place)],
            # GitHub tells results apart by the second alone. Left to itself it would compute the
            # hash of the file's first line, the same for every layer.
            "partialFingerprints": {
                "bnfoldFinding/v1": mark,
                "primaryLocationLineHash": f"{mark}:1",
            },
        }


def _message(finding: Finding) -> str:
    message = finding.message if finding.layer is None else f"{finding.layer}: {finding.message}"
    return showable(message)


def _location(finding: Finding, place: dict[str, str]) -> dict[str, Any]:
    physical = {
        "artifactLocation": {**place, "index": 0},
        # A model has no lines, but code scanning services show no result without one.
        "region": {"startLine": 1, "startColumn": 1, "endLine": 1, "endColumn": 1},
    }
    location: dict[str, Any] = {"physicalLocation": physical}
    if finding.layer is not None:
        name = showable(finding.layer)
        location["logicalLocations"] = [
            {"name": name, "fullyQualifiedName": name, "kind": "member"}
        ]
    return location


def fingerprint(code: str, layer: str | None, occurrence: int) -> str:
    """The same for the same rule on the same layer, through all versions of the file."""
    text = f"{code}\n{layer or ''}\n{occurrence}"
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def artifact_location(path: Path) -> dict[str, str]:
    """Relative to the working directory where the file lies below it, as services want it."""
    file = Path(os.path.abspath(path))
    try:
        uri = quote(file.relative_to(Path.cwd()).as_posix())
    except ValueError:
        return {"uri": file.as_uri()}
    return {"uri": uri, "uriBaseId": _ROOT}
