"""Fixtures of the PyTorch tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch


@pytest.fixture(autouse=True)
def few_threads() -> None:
    torch.set_num_threads(2)
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def real_models() -> Path:
    """The folder of real trained networks; tests that need it are skipped where it is absent."""
    default = Path(__file__).parents[3] / ".." / "shared" / "models"
    folder = Path(os.environ.get("BNFOLD_REAL_MODELS", default))
    if not folder.is_dir():
        pytest.skip(f"no real models in {folder}; set BNFOLD_REAL_MODELS")
    return folder
