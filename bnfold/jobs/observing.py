"""Which observer and which writer of statistics belong to a model's format."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from bnfold.errors import UsageError
from bnfold.formats import Model
from bnfold.recalibration.edit import Restatistic
from bnfold.recalibration.observer import Observer


class Restated(Protocol):
    """A copy of a model with new statistics."""

    def write(self, path: Path) -> list[Path]:
        """Writes it into files at and beside ``path``; the one to open comes last."""


def observer_of(model: Model, scratch: Path, provider: str, threads: int | None) -> Observer:
    """Runs pieces of ``model``.

    Raises:
        UsageError: where its format has no such runtime, or the provider is not there.
    """
    if model.format != "onnx":
        raise _unsupported(model)
    from bnfold.formats.onnx.model import OnnxModel
    from bnfold.formats.onnx.observe import OnnxObserver, RuntimeOptions

    assert isinstance(model, OnnxModel)
    return OnnxObserver(model, scratch, RuntimeOptions(provider, threads))


def restated(model: Model, edits: Sequence[Restatistic]) -> Restated:
    """A copy of ``model`` with the edits carried out; nothing is written yet.

    Raises:
        UsageError: where its format cannot be written.
    """
    if model.format != "onnx":
        raise _unsupported(model)
    from bnfold.formats.onnx.model import OnnxModel
    from bnfold.formats.onnx.restatistic import OnnxRestated

    assert isinstance(model, OnnxModel)
    return OnnxRestated(model, edits)


def _unsupported(model: Model) -> UsageError:
    return UsageError(
        f"{model.path} is a {model.format} model; recalibrate reads ONNX files so far: export it "
        "with its BatchNorm left standing, and recalibrate that"
    )
