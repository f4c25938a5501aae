"""What is known is not reported: baselines, accepted findings, and who is named for it."""

from __future__ import annotations

import json
from pathlib import Path

import onnx
import pytest

from reports.conftest import troubled
from situations.command import Command


@pytest.fixture
def model(command: Command, tmp_path: Path) -> str:
    onnx.save(troubled(), tmp_path / "m.onnx")
    return "m.onnx"


def _findings(command: Command, *arguments: str) -> list[tuple[str, str | None]]:
    document = command("inspect", *arguments, "-f", "json").json
    assert document["summary"]["suppressed"] == len(document["suppressed"])
    return [(f["code"], f["layer"]) for f in document["findings"]]


def test_nothing_is_new_beside_itself(model: str, command: Command, tmp_path: Path) -> None:
    outcome = command("inspect", model, "-f", "json")
    assert outcome.code == 1 and outcome.json["findings"]
    (tmp_path / "base.json").write_text(outcome.out)
    again = command("inspect", model, "--baseline", "base.json")
    assert again.code == 0 and "hidden by the baseline base.json" in again.out
    assert _findings(command, model, "--baseline", "base.json") == []


def test_what_is_new_is_reported(model: str, command: Command, tmp_path: Path) -> None:
    document = command("inspect", model, "-f", "json").json
    worst, *others = document["findings"]
    (tmp_path / "base.json").write_text(json.dumps({**document, "findings": others}))
    found = _findings(command, model, "--baseline", "base.json")
    assert found == [(worst["code"], worst["layer"])]
    assert command("inspect", model, "--baseline", "base.json").code == 1


def test_what_became_worse_is_new(model: str, command: Command, tmp_path: Path) -> None:
    document = command("inspect", model, "-f", "json").json
    worst = document["findings"][0]
    assert worst["severity"] == "error"
    milder = [{**worst, "severity": "warning"}, *document["findings"][1:]]
    (tmp_path / "base.json").write_text(json.dumps({**document, "findings": milder}))
    assert _findings(command, model, "--baseline", "base.json") == [(worst["code"], worst["layer"])]


def test_a_baseline_of_several_goes_by_path(model: str, command: Command, tmp_path: Path) -> None:
    outcome = command("inspect", model, "model.onnx", "-f", "json")
    (tmp_path / "base.json").write_text(outcome.out)
    assert _findings(command, model, "--baseline", "base.json") == []
    (tmp_path / "other.onnx").write_bytes((tmp_path / model).read_bytes())
    assert _findings(command, "other.onnx", "--baseline", "base.json")


def test_accepted_findings_have_a_reason(model: str, command: Command, tmp_path: Path) -> None:
    before = _findings(command, model)
    (code, layer), *_ = before
    assert layer is not None
    (tmp_path / "bnfold.toml").write_text(
        f'[[accept]]\ncode = "{code}"\nlayer = "{layer[:3]}*"\nreason = "the vendor knows"\n'
    )
    outcome = command("inspect", model)
    assert (
        f"1 hidden by accept in {tmp_path / 'bnfold.toml'} ({code}): the vendor knows"
        in outcome.out
    )
    assert outcome.code == 0
    assert _findings(command, model) == before[1:]
    (entry,) = command("inspect", model, "-f", "json").json["suppressed"]
    assert (entry["layer"], entry["reason"]) == (layer, "the vendor knows")
    (tmp_path / "bnfold.toml").write_text(
        f'[[accept]]\ncode = "{code}"\nlayer = "other*"\nreason = "x"\n'
    )
    assert _findings(command, model) == before


@pytest.mark.parametrize(("until", "hidden"), [("2999-12-31", True), ("2001-01-01", False)])
def test_what_is_accepted_for_a_while_comes_back(
    until: str, hidden: bool, model: str, command: Command, tmp_path: Path
) -> None:
    before = _findings(command, model)
    (code, _), *_ = before
    (tmp_path / "bnfold.toml").write_text(
        f'[[accept]]\ncode = "{code}"\nreason = "until the next training"\nuntil = {until}\n'
    )
    assert (_findings(command, model) != before) == hidden
    document = command("inspect", model, "-f", "json").json
    assert document["configuration"]["accept"][0]["until"] == until
    assert bool(document["suppressed"]) == hidden
    said = [
        note for note in document["notes"] if "reported again: accepted until 2001-01-01" in note
    ]
    assert bool(said) != hidden


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('[[accept]]\ncode = "BN101"\n', "has a code and a reason"),
        ('[[accept]]\nreason = "x"\n', "has a code and a reason"),
        ('[[accept]]\ncode = "BN101"\nreason = "x"\nuntil = "soon"\n', "as 2027-01-31, not 'soon'"),
        ('[[accept]]\ncode = "BN9"\nreason = "x"\n', "no rule is called BN9"),
        ('[[accept]]\ncode = "BN101"\nreason = "x"\nlayers = "y"\n', "did you mean layer?"),
        ('accept = "BN101"\n', "list of tables"),
    ],
)
def test_what_is_not_understood_is_refused(
    text: str, complaint: str, model: str, command: Command, tmp_path: Path
) -> None:
    (tmp_path / "bnfold.toml").write_text(text)
    outcome = command("inspect", model)
    assert outcome.code == 2 and complaint in outcome.err


def test_the_configuration_that_hides_is_named(
    model: str, command: Command, tmp_path: Path
) -> None:
    everything = _findings(command, model)
    (tmp_path / "pyproject.toml").write_text('[tool.bnfold]\nignore = ["BN101"]\n')
    outcome = command("inspect", model)
    assert outcome.code == 0
    assert f"1 hidden by ignore in {tmp_path / 'pyproject.toml'} (BN101)" in outcome.out
    assert ("BN101", "stem|bn") not in _findings(command, model)
    assert _findings(command, model, "--isolated") == everything
    assert "hidden" not in command("inspect", model, "--isolated", "--select", "BN3").out
    assert "hidden" not in command("inspect", model, "--isolated").out


def test_a_file_that_is_named(model: str, command: Command, tmp_path: Path) -> None:
    (tmp_path / "bnfold.toml").write_text('fail-on = "never"\n')
    (tmp_path / "ci.toml").write_text('fail-on = "error"\n')
    (tmp_path / "pyproject.toml").write_text("[project]\nname = 'x'\n")
    assert command("inspect", model).code == 0
    assert command("inspect", model, "--config", "ci.toml").code == 1
    assert command("inspect", model, "--isolated").code == 1
    outcome = command("inspect", model, "--config", "pyproject.toml")
    assert outcome.code == 2 and "has no [tool.bnfold]" in outcome.err
    found = command("inspect", model, "--config", "ci.toml", "-f", "json").json
    assert found["configuration"]["file"] == "ci.toml"
