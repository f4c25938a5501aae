"""Which observer and which writer of statistics belong to a model's format."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from bnfold.errors import UsageError
from bnfold.formats import Model, open_model
from bnfold.recalibration.edit import Restatistic
from bnfold.recalibration.observer import Observer


class Restated(Protocol):
    """A copy of a model with new statistics."""

    def write(self, path: Path) -> list[Path]:
        """Writes it into files at and beside ``path``; the one to open comes last."""


def observer_of(
    model: Model,
    scratch: Path,
    provider: str = "CPUExecutionProvider",
    threads: int | None = None,
) -> Observer:
    """Runs pieces of ``model``.

    Raises:
        UsageError: where its format has no such runtime, or the provider is not there.
    """
    if model.format == "onnx":
        from bnfold.formats.onnx.model import OnnxModel
        from bnfold.formats.onnx.observe import OnnxObserver, RuntimeOptions

        assert isinstance(model, OnnxModel)
        return OnnxObserver(model, scratch, RuntimeOptions(provider, threads))
    if model.format == "torch":
        from bnfold.formats.torch.model import TorchModel
        from bnfold.formats.torch.observe import TorchObserver

        assert isinstance(model, TorchModel)
        return TorchObserver(model, threads)
    raise _unsupported(model)


def restated(model: Model, edits: Sequence[Restatistic]) -> Restated:
    """A copy of ``model`` with the edits carried out; nothing is written yet.

    Raises:
        UsageError: where its format cannot be written.
    """
    if model.format == "onnx":
        from bnfold.formats.onnx.model import OnnxModel
        from bnfold.formats.onnx.restatistic import OnnxRestated

        assert isinstance(model, OnnxModel)
        return OnnxRestated(model, edits)
    if model.format == "torch":
        from bnfold.formats.torch.model import TorchModel
        from bnfold.formats.torch.restatistic import TorchRestated

        assert isinstance(model, TorchModel)
        return TorchRestated(model, edits)
    raise _unsupported(model)


def reopened(copy: Restated, written: Path) -> Model:
    """What ``copy`` wrote, read back from its file."""
    read_back = getattr(copy, "reopened", open_model)
    model: Model = read_back(written)
    return model


def _unsupported(model: Model) -> UsageError:
    return UsageError(
        f"{model.path} holds weights without the network that they belong to, which has to run; "
        "name its factory, with --weights"
    )
