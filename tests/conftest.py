"""What the tests share: folded situations, and real networks where they are at hand."""

from __future__ import annotations

import os
from pathlib import Path

import hypothesis
import pytest

from situations_fold import ROOT, Folder

hypothesis.settings.register_profile("default", deadline=None, max_examples=60, derandomize=True)
hypothesis.settings.register_profile("thorough", deadline=None, max_examples=4000)
hypothesis.settings.load_profile(os.environ.get("BNFOLD_HYPOTHESIS", "default"))


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    return Folder(tmp_path_factory.mktemp("situations"))


@pytest.fixture(scope="session")
def sample_models() -> Path:
    return ROOT / "sample_models"


@pytest.fixture(scope="session")
def real_models() -> Path:
    """Trained networks from public repositories: too large and too foreign to be part of this one."""
    place = Path(os.environ.get("BNFOLD_REAL_MODELS", ROOT.parent / "shared" / "models"))
    if not place.is_dir():
        pytest.skip(f"no real models at {place}; BNFOLD_REAL_MODELS names their folder")
    return place
