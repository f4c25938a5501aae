"""What README and CONTRIBUTING name is there."""

from __future__ import annotations

import re

import pytest

from situations.fold import ROOT

# A path in a code span: something with a slash that begins with a folder of this project.
_PATH = re.compile(
    r"`((?:bnfold|tests|benchmarks|sample_models|docs|integrations|\.ci)/[\w./*-]+|[\w-]+\.(?:toml|txt|md))`"
)
PAGES = sorted(f"docs/pages/{p.name}" for p in (ROOT / "docs" / "pages").glob("*.md"))
DOCUMENTS = (
    *PAGES,
    "README.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "benchmarks/README.md",
    "sample_models/README.md",
)
# Files that a user may have, and names of what commands write.
_NOT_OURS = {"bnfold.toml"}


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_path_that_is_named_exists(document: str) -> None:
    text = (ROOT / document).read_text(encoding="utf-8")
    named = set(_PATH.findall(text)) - _NOT_OURS
    missing = [path for path in sorted(named) if not list(ROOT.glob(path.rstrip("/")))]
    assert not missing
    assert named or document in PAGES or document.endswith("sample_models/README.md")


def test_no_snippet_is_cut_to_pieces() -> None:
    """`ruff format` takes a Python block for Python: a snippet in one became `--8 < --`."""
    for page in PAGES:
        text = (ROOT / page).read_text(encoding="utf-8")
        assert not re.search(r"--8\s+<|<\s+--", text), page
        for path in re.findall(r'(?m)^--8<-- "(.*)"$', text):
            assert (ROOT / path).is_file(), path


def test_the_readme_is_short() -> None:
    """It says what this is, and where the rest stands."""
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 200


def test_the_code_map_names_every_room() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    table = text[text.index("## Where things are") :]
    rooms = {p.name for p in (ROOT / "bnfold").iterdir() if (p / "__init__.py").exists()}
    assert {room for room in rooms if f"`bnfold/{room}`" not in table} == set()
