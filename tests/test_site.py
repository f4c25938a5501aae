"""The documentation: what is made of commands and docstrings, and the site itself where MkDocs is here."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from bnfold.audit import RULES
from bnfold.planning import Reason
from situations.fold import ROOT


@pytest.fixture(scope="module")
def hooks() -> ModuleType:
    spec = importlib.util.spec_from_file_location("site_hooks", ROOT / "docs" / "hooks.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_command_has_examples(hooks: ModuleType) -> None:
    from bnfold.cli import COMMANDS

    for_machines = {"schema", "completion"}
    assert set(COMMANDS) - for_machines == set(hooks.EXAMPLES)


def test_every_rule_has_a_page(hooks: ModuleType) -> None:
    pages = dict(hooks._rule_pages())
    assert set(pages) == {"rules/index.md", *(f"rules/{rule.code}.md" for rule in RULES)}
    for rule in RULES:
        assert rule.title in pages[f"rules/{rule.code}.md"]
        assert f"({rule.code}.md)" in pages["rules/index.md"]


def test_every_reason_is_listed(hooks: ModuleType) -> None:
    page = hooks._reasons_page()
    assert all(f"| `{reason.code}` |" in page for reason in Reason)
    assert "{" not in re.sub(r"`[^`]*`", "", page)


def test_the_plot_shows_what_was_measured(hooks: ModuleType) -> None:
    page = hooks._benchmarks_page()
    total = re.search(r"\*\*left in all\*\* \|(.*)", page)
    assert total is not None
    for count in re.findall(r"\d+", total[1]):
        assert f">{count}</text>" in page
    for accuracy in ("18.9 %", "98.7 %", "90.1 %"):  # the contrast shift
        assert f"<title>{accuracy}</title>" in page


def test_what_stands_behind_a_command_was_printed_by_it(hooks: ModuleType) -> None:
    block = "```console\n$ bnfold rule BN404\n```"
    text = f"before\n\n{block}\n\n```\n$ bnfold is no command here\n```\n"
    page = hooks.on_page_markdown(text, page=None)
    assert page.startswith("before") and "$ bnfold rule BN404\nBN404 drift-begins" in page
    assert "```\n$ bnfold is no command here\n```\n" in page


def test_an_example_that_fails_builds_no_page(hooks: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="ended with 2"):
        hooks._run("inspect absent.onnx", tmp_path)


def test_the_site_builds_without_warnings(tmp_path: Path) -> None:
    for module in ("mkdocs", "material", "mkdocstrings"):
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"no {module} here (the extra docs), so the site was not built")
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "mkdocs",
            "build",
            "--strict",
            "--quiet",
            "-d",
            str(tmp_path / "site"),
        ],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    made = {p.parent.name for p in (tmp_path / "site").glob("*/*/index.html")}
    assert {rule.code for rule in RULES} <= made
    fold = (tmp_path / "site" / "commands" / "fold" / "index.html").read_text(encoding="utf-8")
    assert "8 fold, 0 stay" in fold
