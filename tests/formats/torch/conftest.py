"""Fixtures of the PyTorch tests."""

from __future__ import annotations

from typing import Any

import pytest

torch: Any = pytest.importorskip("torch")


@pytest.fixture(autouse=True)
def few_threads() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
