"""Which file a finding is shown at."""

from __future__ import annotations

from pathlib import Path

from bnfold.jobs.common import ModelInfo


def is_code(model: ModelInfo) -> bool:
    """Whether the model was named by what makes it: ``file.py:factory``, ``package.module:factory``."""
    return model.format == "torch" and ":" in model.path and not Path(model.path).exists()


def artifact_of(model: ModelInfo) -> Path:
    """The model's file, or the code that makes it where that lies below the working directory."""
    if not is_code(model):
        return Path(model.path)
    where, _, _ = model.path.rpartition(":")
    if where.endswith(".py"):
        return Path(where)
    code = Path(*where.split(".")).with_suffix(".py")
    return code if code.is_file() else Path(model.path)
