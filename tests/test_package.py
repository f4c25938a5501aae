"""What is published says the same everywhere."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bnfold.version import __version__
from situations.fold import ROOT

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def _project() -> dict[str, Any]:
    found: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    return found["project"]  # type: ignore[no-any-return]


def _same(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _lowest_admitted() -> dict[str, str]:
    """What pyproject.toml admits at least, for all that the tests without torch import."""
    project = _project()
    extras = project["optional-dependencies"]
    wanted = [*project["dependencies"]]
    for extra in ("html", "images", "tables", "test"):
        wanted += extras[extra]
    found = (re.match(r"([\w-]+)>=([\d.]+)", line) for line in wanted)
    return {_same(m[1]): m[2] for m in found if m}


def test_one_version() -> None:
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert _project()["version"] == __version__
    assert f"\nversion: {__version__}\n" in citation


def test_the_second_constraints_file_holds_the_lowest_versions() -> None:
    """Otherwise the tests with it would show nothing about what pyproject.toml admits."""
    lines = (ROOT / "constraints-lowest.txt").read_text(encoding="utf-8").splitlines()
    pinned = dict(re.findall(r"(?m)^([\w-]+)==([\d.]+)", "\n".join(lines)))
    tried = {_same(name): version for name, version in pinned.items()}
    admitted = _lowest_admitted()
    assert set(admitted) <= set(tried)
    for name, version in admitted.items():
        assert (tried[name] + ".0.0").startswith(version + ".") or tried[name] == version, name


@pytest.mark.parametrize("document", ["README.md"])
def test_links_work_on_an_index_page(document: str) -> None:
    """There, what lies beside the file is not there."""
    text = (ROOT / document).read_text(encoding="utf-8")
    prose = re.sub(r"(?s)```.*?```|`[^`]*`", "", text)
    targets = re.findall(r"\]\(([^)]+)\)", prose)
    assert all(target.startswith(("https://", "#")) for target in targets), targets


def test_the_search_for_a_browser_never_fails(tmp_path: Path) -> None:
    """CI goes on without one, and says so."""
    for tool in ("bash", "id", "cat", "tail", "head", "sh"):
        found = shutil.which(tool)
        assert found is not None
        (tmp_path / tool).symlink_to(found)
    done = subprocess.run(
        ["bash", str(ROOT / ".ci" / "browser")],
        env={"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0
    assert "NO CHROMIUM" in done.stderr and "SKIPPED" in done.stderr
