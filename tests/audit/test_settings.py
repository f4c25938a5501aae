"""Selecting rules, and the settings files."""

from __future__ import annotations

from pathlib import Path

import pytest

from bnfold.audit import FailOn, Finding, Selection, Severity, load_settings
from bnfold.audit.selection import parse_codes
from bnfold.audit.settings import Settings
from bnfold.errors import UsageError


@pytest.mark.parametrize(
    ("select", "ignore", "picked"),
    [
        ((), (), True),
        (("BN1",), (), True),
        (("BN2",), (), False),
        ((), ("BN1",), False),
        (("BN106",), ("BN1",), True),
        (("BN1",), ("BN106",), False),
        (("BN106",), ("BN106",), False),
    ],
)
def test_the_longer_prefix_decides(
    select: tuple[str, ...], ignore: tuple[str, ...], picked: bool
) -> None:
    assert Selection(select, ignore).picks("BN106") is picked


def test_codes_come_as_lists_prefixes_and_names() -> None:
    assert parse_codes(["bn1,BN203", "dead-channels"], "--select") == ("BN1", "BN203", "BN106")


def test_an_unknown_code_is_refused_with_the_nearest() -> None:
    with pytest.raises(UsageError, match=r"--ignore: .* dead-chanels \(did you mean dead-channels"):
        parse_codes(["dead-chanels"], "--ignore")


def test_settings_are_found_upwards(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(
        '[tool.bnfold]\nselect = ["BN1"]\nignore = "BN106"\nfail-on = "warning"\n'
        "[tool.bnfold.thresholds]\nloud-gain = 20\n"
    )
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    (below / "pyproject.toml").write_text("[project]\nname = 'other'\n")
    settings = load_settings(below)
    assert settings.source == tmp_path / "pyproject.toml"
    assert settings.selection.select == ("BN1",)
    assert settings.selection.ignore == ("BN106",)
    assert settings.selection.thresholds.loud_gain == 20
    assert settings.fail_on is FailOn.WARNING


def test_its_own_file_comes_first(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text('[tool.bnfold]\nselect = ["BN1"]\n')
    (tmp_path / "bnfold.toml").write_text('select = ["BN2"]\n')
    assert load_settings(tmp_path).selection.select == ("BN2",)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("selct = []", r"the key selct is unknown \(did you mean select\?\)"),
        ("frobnicate = 1", "known are select, ignore, accept, fail-on, thresholds"),
        ("[thresholds]\nloud-gian = 1", r"did you mean loud-gain\?"),
        ("[thresholds]\nloud-gain = 'big'", "has to be a number"),
        ("[thresholds]\nloud-gain = nan", "has to be a number"),
        ("fail-on = 'note'", "it can be error, warning, never"),
        ("select = [1]", "has to be a list of codes"),
        ("select = ['BN9']", "no rule is called BN9"),
        ("select =", "cannot be read"),
    ],
)
def test_what_is_not_understood_is_refused(text: str, complaint: str, tmp_path: Path) -> None:
    (tmp_path / "bnfold.toml").write_text(text)
    with pytest.raises(UsageError, match=complaint):
        load_settings(tmp_path)


def test_the_command_line_overrides(tmp_path: Path) -> None:
    settings = Settings(Selection(("BN1",), ("BN106",)))
    changed = settings.overridden(select=["BN2"], fail_on=FailOn.NEVER)
    assert changed.selection == Selection(("BN2",), ("BN106",))
    assert changed.fail_on is FailOn.NEVER
    assert settings.overridden() == settings


@pytest.mark.parametrize(
    ("limit", "severity", "fails"),
    [
        ("error", "error", True), ("error", "warning", False), ("warning", "warning", True),
        ("warning", "info", False), ("never", "error", False),
    ],
)  # fmt: skip
def test_fail_on(limit: str, severity: str, fails: bool) -> None:
    finding = Finding("BN101", Severity(severity), None, "")
    assert FailOn(limit).concerns([finding]) is fails
