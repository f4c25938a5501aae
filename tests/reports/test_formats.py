"""What machines and pull requests read, byte by byte."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bnfold.audit import RULES, Finding, Severity
from bnfold.errors import UsageError
from bnfold.jobs import Inspection, fold
from bnfold.reports import github, markdown, sarif

Golden = Callable[[str, str], None]


def test_sarif_is_valid(inspection_with_data: Inspection) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    schema = json.loads((Path(__file__).parent / "sarif_schema.json").read_text())
    document = json.loads(sarif.render(inspection_with_data))
    jsonschema.Draft202012Validator(schema).validate(document)


def test_sarif_results(inspection: Inspection, golden: Golden) -> None:
    run = sarif.document(inspection)["runs"][0]
    text = json.dumps({k: run[k] for k in ("artifacts", "results")}, indent=2)
    golden("sarif.json", text + "\n")


def test_sarif_lists_every_rule_with_its_documentation(inspection: Inspection) -> None:
    rules = sarif.document(inspection)["runs"][0]["tool"]["driver"]["rules"]
    assert [r["id"] for r in rules] == [r.code for r in RULES]
    assert all("## What to do" in r["help"]["markdown"] for r in rules)


def _fingerprints(result: Inspection) -> list[str]:
    results = sarif.document(result)["runs"][0]["results"]
    return [r["partialFingerprints"]["bnfoldFinding/v1"] for r in results]


def test_fingerprints_outlive_messages_and_tell_findings_apart(inspection: Inspection) -> None:
    before = _fingerprints(inspection)
    reworded = tuple(replace(f, message="Other numbers.") for f in inspection.findings)
    assert _fingerprints(replace(inspection, findings=reworded)) == before
    twice = replace(inspection, findings=inspection.findings * 2)
    assert len(set(_fingerprints(twice))) == 2 * len(before)


def test_artifact_uris(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert sarif.artifact_uri("models/a b.onnx") == "models/a%20b.onnx"
    assert sarif.artifact_uri(str(tmp_path / "x" / "a.onnx")) == "x/a.onnx"
    assert sarif.artifact_uri("/elsewhere/a.onnx") == "file:///elsewhere/a.onnx"


def test_github(inspection: Inspection, golden: Golden) -> None:
    golden("github.txt", github.render(inspection))


def test_github_lines_cannot_be_broken(inspection: Inspection) -> None:
    nasty = Finding("BN101", Severity.ERROR, "a,b::c", "50 %\nof\r it: bad.", "non-finite")
    lines = github.render(replace(inspection, findings=(nasty,))).splitlines()
    assert len(lines) == 1
    assert lines[0].startswith(
        "::error file=models/gate & door.onnx,title=BN101 non-finite::50 %25%0Aof"
    )


def test_markdown(inspection: Inspection, golden: Golden) -> None:
    golden("markdown.md", markdown.render(inspection))


def test_markdown_of_a_fold(sample_models: Path, tmp_path: Path) -> None:
    from bnfold.formats.onnx import OnnxModel

    result = fold(OnnxModel(sample_models / "preact.onnx"), tmp_path / "out.onnx")
    text = markdown.render(result)
    assert "### `preact.onnx`: folded" in text
    assert "7 BatchNorm: 3 fold, 4 stay." in text
    assert "**Verified**" in text
    assert "| `/block1/bn1/BatchNormalization` | no exact fold exists" in text


def test_no_markdown_for_other_results() -> None:
    with pytest.raises(UsageError, match="no Markdown report"):
        markdown.render(object())


def test_json_keeps_its_keys(inspection_with_data: Inspection) -> None:
    data: dict[str, Any] = json.loads(json.dumps(inspection_with_data.to_json(), allow_nan=False))
    assert {"code", "severity", "layer", "message"} <= set(data["findings"][0])
    drift = {r["name"]: r["drift"] for r in data["batch_norms"]}
    assert drift["stem|bn"] is None
    assert drift["head: bn"]["mean_shift"] == pytest.approx(1.5)
