"""``bnfold rule`` and the options of ``bnfold inspect`` that concern findings."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bnfold.audit import RULES
from bnfold.cli.inspect import inspect
from bnfold.cli.rule import rule
from bnfold.errors import UsageError
from situations.command import called

from .conftest import troubled


def run(verb: str, *words: str, code: int = 0) -> str:
    result = called(rule if verb == "rule" else inspect, *words)
    assert result.exit_code == code, result
    return result.stdout


def test_the_list_names_every_rule() -> None:
    found = run("rule")
    assert all(each.code in found for each in RULES)


@pytest.mark.parametrize("each", RULES, ids=[each.code for each in RULES])
def test_every_page_has_its_parts(each: object) -> None:
    code = getattr(each, "code", "")
    found = run("rule", code.lower())
    assert found.startswith(code)
    assert found.index("What it does") < found.index("Why it matters") < found.index("What to do")


def test_a_page_states_its_settings() -> None:
    assert "loud-gain = 10" in run("rule", "loud-channel")


def test_an_unknown_rule_is_refused() -> None:
    error = called(rule, "BN1O4").exception
    assert isinstance(error, UsageError)
    assert "no rule is called BN1O4 (did you mean BN104" in str(error)


def test_a_beginning_lists_what_begins_so() -> None:
    found = run("rule", "bn4")
    assert all((each.code in found) == each.code.startswith("BN4") for each in RULES)
    assert "drift" in found and "BN2xx" not in found


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    import onnx

    monkeypatch.chdir(tmp_path)
    onnx.save(troubled(), tmp_path / "m.onnx")
    return "m.onnx"


def test_exit_codes(model: str) -> None:
    run("inspect", model, code=1)
    run("inspect", model, "--fail-on", "never")
    run("inspect", model, "--ignore", "BN101")
    run("inspect", model, "--ignore", "non-finite", "--fail-on", "error")
    Path("bnfold.toml").write_text('fail-on = "never"\n')
    run("inspect", model)
    run("inspect", model, "--fail-on", "error", code=1)


def test_selection(model: str) -> None:
    found = json.loads(run("inspect", model, "--format", "json", "--select", "BN106,BN3"))
    assert {f["code"] for f in found["findings"]} == {"BN106", "BN301"}


@pytest.mark.parametrize("format", ["sarif", "github", "markdown"])
def test_formats_reach_stdout(model: str, format: str) -> None:
    assert "BN101" in run("inspect", model, "--format", format, code=1)
