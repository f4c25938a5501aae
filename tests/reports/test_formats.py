"""What machines and pull requests read, byte by byte."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from audit.samples import SAMPLES
from bnfold.audit import RULES, Finding, Severity, run_rules
from bnfold.errors import UsageError
from bnfold.formats.onnx import OnnxModel
from bnfold.jobs import Inspection, fold, inspect
from bnfold.reports import github, markdown, sarif
from bnfold.reports.artifact import artifact_of

from .conftest import INFO, Sarif

Golden = Callable[[str, str], None]


def test_sarif_results(inspection: Inspection, sarif_of: Sarif, golden: Golden) -> None:
    run = sarif_of(inspection)
    text = json.dumps({k: v for k, v in run.items() if k != "tool"}, indent=2)
    golden("sarif.json", text + "\n")


def test_sarif_lists_every_rule_with_its_documentation(
    inspection: Inspection, sarif_of: Sarif
) -> None:
    rules = sarif_of(inspection)["tool"]["driver"]["rules"]
    assert [r["id"] for r in rules] == [r.code for r in RULES]
    assert all("## What to do" in r["help"]["markdown"] for r in rules)


def test_sarif_has_what_code_scanning_asks_for(
    inspection_with_data: Inspection, sarif_of: Sarif
) -> None:
    """GitHub's limits, and no claim that a finding concerns security."""
    run = sarif_of(inspection_with_data)
    rules = run["tool"]["driver"]["rules"]
    for rule in rules:
        assert all(len(rule[f"{kind}Description"]["text"]) <= 1024 for kind in ("short", "full"))
        assert rule["properties"]["problem.severity"] in ("error", "warning", "recommendation")
        assert "security-severity" not in rule["properties"]
    for result in run["results"]:
        assert rules[result["ruleIndex"]]["id"] == result["ruleId"]
        (location,) = result["locations"]
        assert location["physicalLocation"]["region"].keys() == {
            "startLine", "startColumn", "endLine", "endColumn"
        }  # fmt: skip


@pytest.mark.parametrize("code", SAMPLES)
def test_sarif_of_every_rule_is_valid(code: str, sarif_of: Sarif, tmp_path: Path) -> None:
    sample = SAMPLES[code]
    onnx.save(sample.sick(), tmp_path / "model.onnx")
    model = OnnxModel(tmp_path / "model.onnx")
    result = inspect(model)
    observed = sample.sick_data() if sample.sick_data else None
    findings = run_rules(model, result.plan, None, observed)
    run = sarif_of(replace(result, findings=findings))
    assert code in {each["ruleId"] for each in run["results"]}


@pytest.mark.parametrize(
    "name",
    [
        "dory/TCN_T_TCN.onnx",
        "openwakeword/hey_rhasspy_v0.1.onnx",
        "onnx-light-zoo/light_densenet121.onnx",
        "portrait-seg/SINet_SINet.onnx",
    ],
)
def test_sarif_of_real_networks_is_valid(real_models: Path, name: str, sarif_of: Sarif) -> None:
    assert sarif_of(inspect(OnnxModel(real_models / name)))["results"]


def _fingerprints(run: Any) -> list[tuple[str, str]]:
    """What GitHub tells results by, and what others do."""
    prints = [result["partialFingerprints"] for result in run["results"]]
    return [(each["primaryLocationLineHash"], each["bnfoldFinding/v1"]) for each in prints]


def test_fingerprints_outlive_messages_and_tell_findings_apart(
    inspection: Inspection, sarif_of: Sarif
) -> None:
    before = _fingerprints(sarif_of(inspection))
    reworded = tuple(replace(f, message="Other numbers.") for f in inspection.findings)
    assert _fingerprints(sarif_of(replace(inspection, findings=reworded))) == before
    twice = _fingerprints(sarif_of(replace(inspection, findings=inspection.findings * 2)))
    assert all(len(set(column)) == 2 * len(before) for column in zip(*twice, strict=True))


def test_artifact_locations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    def location(path: str | Path) -> dict[str, str]:
        return sarif.artifact_location(Path(path))

    below = {"uri": "models/a%20b.onnx", "uriBaseId": "%SRCROOT%"}
    assert location("models/a b.onnx") == below
    assert location(tmp_path / "models" / "a b.onnx") == below
    assert location("other/../models/a b.onnx") == below
    assert location("/elsewhere/a.onnx") == {"uri": "file:///elsewhere/a.onnx"}
    assert location("../a.onnx") == {"uri": (tmp_path.parent / "a.onnx").as_uri()}


def test_a_factory_is_shown_at_its_code(
    inspection: Inspection, sarif_of: Sarif, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hash is that of the weights, so it does not stand beside the code."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nets").mkdir()
    (tmp_path / "nets" / "small.py").touch()
    shown = {}
    for name in ("nets/small.py:make", "nets.small:make", "elsewhere.small:make"):
        result = replace(inspection, model=replace(INFO, path=name, format="torch"))
        run = sarif_of(result)
        shown[name] = run["artifacts"][0]["location"]["uri"]
        assert f"file={github._property(str(artifact_of(result.model)))}," in github.render(result)
        assert "hashes" not in run["artifacts"][0]
    assert list(shown.values()) == ["nets/small.py", "nets/small.py", "elsewhere.small%3Amake"]


def test_github(inspection: Inspection, golden: Golden) -> None:
    golden("github.txt", github.render(inspection))


def test_github_lines_cannot_be_broken(inspection: Inspection) -> None:
    nasty = Finding("BN101", Severity.ERROR, "a,b::c", "50 %\nof\r it: bad.", "non-finite")
    lines = github.render(replace(inspection, findings=(nasty,))).splitlines()
    assert len(lines) == 1
    assert lines[0].startswith(
        "::error file=models/gate & door.onnx,title=BN101 non-finite::50 %25\\nof"
    )


def test_markdown(inspection: Inspection, golden: Golden) -> None:
    golden("markdown.md", markdown.render(inspection))


def test_markdown_of_a_fold(sample_models: Path, tmp_path: Path) -> None:
    result = fold(OnnxModel(sample_models / "preact.onnx"), tmp_path / "out.onnx")
    text = markdown.render(result)
    assert "### `preact.onnx`: folded" in text
    assert "7 BatchNorm: 7 fold, 0 stay." in text
    assert "**Verified**" in text


def test_no_markdown_for_other_results() -> None:
    with pytest.raises(UsageError, match="no Markdown report"):
        markdown.render(object())


def test_markdown_of_a_checkpoint(undecided: Inspection) -> None:
    text = markdown.render(undecided)
    assert "3 BatchNorm; whether they fold is unknown without the code of the network." in text
    assert "stay" not in text


def test_json_has_the_momentum_of_the_file(inspection: Inspection) -> None:
    """Not that of the graph, which counts as PyTorch does."""
    assert {r["momentum"] for r in inspection.to_json()["batch_norms"]} == {float(np.float32(0.9))}
    assert inspection.batch_norms[0].norm.momentum == pytest.approx(0.1)


def test_json_keeps_its_keys(inspection_with_data: Inspection) -> None:
    data: dict[str, Any] = json.loads(json.dumps(inspection_with_data.to_json(), allow_nan=False))
    assert {"code", "severity", "layer", "message"} <= set(data["findings"][0])
    drift = {r["name"]: r["drift"] for r in data["batch_norms"]}
    assert drift["stem|bn"] is None
    assert drift["head: bn"]["mean_shift"] == pytest.approx(1.5)
