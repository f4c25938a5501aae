"""The JSON of every command: valid by its published schema, and telling of the run that made it."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from bnfold.reports.schemas import schema_text
from bnfold.version import __version__
from situations import BY_NAME
from situations.command import Command
from situations.fold import ROOT, save

jsonschema = pytest.importorskip("jsonschema")
_SAMPLES = ROOT / "sample_models"
_STALE, _DATA = _SAMPLES / "residual_stale_statistics.onnx", _SAMPLES / "digits_calibration.npz"
_FEW = ["--data", _DATA, "--samples", "16"]


def validated(document: Any) -> Any:
    schema = json.loads(schema_text(document["command"]))
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.Draft202012Validator(schema).validate(document)
    return document


_RUNS: dict[str, tuple[list[Any], int]] = {
    "inspect": (["inspect", "kept.onnx"], 0),
    "inspect data": (["inspect", _STALE, *_FEW, "--ignore", "BN402"], 1),
    "inspect against": (["inspect", _STALE, "--against", _SAMPLES / "residual.onnx"], 0),
    "inspect several": (["inspect", "model.onnx", "kept.onnx", "none.onnx"], 0),
    "inspect one that fails": (["inspect", "model.onnx", "text.onnx"], 2),
    "inspect affines": (["inspect", "affine.onnx"], 0),
    "inspect frozen": (["inspect", "written_out.onnx"], 0),
    "fold": (["fold", "model.onnx", "-o", "out.onnx"], 0),
    "fold frozen": (["fold", "written_out.onnx", "-o", "out.onnx"], 0),
    "fold rest": (["fold", "kept.onnx", "-o", "out.onnx", "--rest", "affine"], 0),
    "fold nothing": (["fold", "kept.onnx", "-o", "out.onnx"], 0),
    "fold dry": (["fold", "affine.onnx", "--dry-run"], 0),
    "fold refused": (["fold", "kept.onnx", "--dry-run", "--strict"], 1),
    "fold several": (["fold", "model.onnx", "half.onnx", "--output-dir", "folder"], 0),
    "fold gauges": (["fold", _SAMPLES / "preact.onnx", "-o", "out.onnx"], 0),
    "verify": (["verify", "model.onnx", "model.onnx"], 0),
    "verify other": (["verify", _SAMPLES / "residual.onnx", _STALE], 1),
    "verify bounds": (
        ["verify", "model.onnx", "model.onnx", "--metric", "sqnr", "--threshold", "40"],
        0,
    ),
    "recalibrate": (["recalibrate", _STALE, *_FEW, "-o", "new.onnx"], 0),
    "recalibrate several": (
        ["recalibrate", _STALE, _SAMPLES / "residual.onnx", *_FEW, "--output-dir", "folder"],
        0,
    ),
    "recalibrate one that fails": (
        ["recalibrate", "none.onnx", _STALE, *_FEW, "--output-dir", "folder"],
        2,
    ),
    "recalibrate some": (
        ["recalibrate", _STALE, *_FEW, "-o", "n.onnx", "--skip", "*block*", "--prior", "9"],
        0,
    ),
}


@pytest.mark.parametrize("name", _RUNS)
def test_every_document_is_valid(name: str, command: Command, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "text.onnx").write_text("this is no model\n")
    arguments, code = _RUNS[name]
    outcome = command(*arguments, "-f", "json")
    assert outcome.code == code, outcome.err
    validated(outcome.json)


@pytest.mark.parametrize("name", ["mean_holds_nan", "variance_holds_inf", "negative_variance"])
def test_broken_statistics_are_valid(name: str, command: Command, tmp_path: Path) -> None:
    save(BY_NAME[name].build(), tmp_path / "broken.onnx")
    validated(command("inspect", "broken.onnx", "-f", "json").json)


def test_a_schema_can_fail(command: Command) -> None:
    """Every place of a document: a key that nobody declared, one that is missing, another type."""
    document = command("inspect", "kept.onnx", "-f", "json").json
    (norm,) = document["batch_norms"]
    for broken in (
        {**document, "surprise": 1},
        {key: value for key, value in document.items() if key != "tool"},
        {**document, "batch_norms": [{**norm, "channels": "3"}]},
        {**document, "batch_norms": [{**norm, "mean": {"min": 0, "max": 1, "median": 0}}]},
        {**document, "format_version": "2.0"},
    ):
        with pytest.raises(jsonschema.ValidationError):
            validated(broken)


def test_the_run_is_told(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bnfold.toml").write_text('ignore = ["BN203"]\nfail-on = "warning"\n')
    arguments = ["inspect", "kept.onnx", "-f", "json", "--select", "BN2"]
    document = command(*arguments).json
    assert document["tool"] == {"name": "bnfold", "version": __version__}
    assert document["command_line"] == ["bnfold", *arguments]
    configuration = document["configuration"]
    assert configuration["file"] == str(tmp_path / "bnfold.toml")
    assert (configuration["select"], configuration["ignore"]) == (["BN2"], ["BN203"])
    assert configuration["fail_on"] == "warning" and configuration["thresholds"]
    created = datetime.fromisoformat(document["created"].replace("Z", "+00:00"))
    assert created.utcoffset() is not None
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "86400")
    assert command(*arguments).json["created"] == "1970-01-02T00:00:00Z"


def test_the_summary_counts(command: Command) -> None:
    document = command("inspect", _STALE, *_FEW, "-f", "json").json
    for severity in ("error", "warning", "info"):
        found = [f for f in document["findings"] if f["severity"] == severity]
        assert document["summary"][f"{severity}s"] == len(found)
    assert document["summary"]["errors"] > 0
    several = command("inspect", _STALE, _SAMPLES / "residual.onnx", *_FEW, "-f", "json").json
    assert several["summary"]["models"] == 2 and several["summary"]["failed"] == 0
    assert several["summary"]["errors"] == sum(m["summary"]["errors"] for m in several["models"])


@pytest.mark.parametrize("name", ["inspect", "fold", "verify", "recalibrate"])
def test_the_schema_is_printed(name: str, command: Command) -> None:
    outcome = command("schema", name)
    assert outcome.code == 0 and outcome.out == schema_text(name)
    assert outcome.json["$schema"] == "https://json-schema.org/draft/2020-12/schema"
