"""What the rest of bnfold asks of PyTorch models: the one place that knows all rooms of this format."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from bnfold.errors import UsageError
from bnfold.formats.torch.edit.edited import PROGRAM, TorchEdited
from bnfold.formats.torch.edit.statistics import TorchRecalibrated
from bnfold.formats.torch.file.state import read_tensors
from bnfold.formats.torch.graph.checkpoint import TorchCheckpoint
from bnfold.formats.torch.graph.model import TorchModel
from bnfold.formats.torch.graph.open import open_torch
from bnfold.formats.torch.run.fold import TorchFold
from bnfold.formats.torch.run.generated import generated_inputs
from bnfold.formats.torch.run.inference import runs_of
from bnfold.formats.torch.run.observer import TorchObserver
from bnfold.planning import Plan
from bnfold.proof.subject import Arrays, Reference

if TYPE_CHECKING:
    from bnfold.recalibration.new_statistics import NewStatistics
    from bnfold.recalibration.observer import Observer, RuntimeOptions

Opened = TorchModel | TorchCheckpoint


class TorchFormat:
    """See `bnfold.formats.Format`. A checkpoint without its network can do none of it."""

    def generated_inputs(self, model: Opened) -> Sequence[Arrays]:
        return generated_inputs(_with_program(model, "run"))

    def edit(
        self,
        model: Opened,
        plan: Plan,
        *,
        keep_modules: bool = False,
        provenance: Mapping[str, str] | None = None,
    ) -> TorchEdited:
        opened = _with_program(model, "folded")
        return TorchEdited(opened, plan, keep_modules=keep_modules, provenance=provenance)

    def with_statistics(
        self,
        model: Opened,
        edits: Sequence[NewStatistics],
        provenance: Mapping[str, str] | None = None,
    ) -> TorchRecalibrated:
        return TorchRecalibrated(_with_program(model, "recalibrated"), edits, provenance)

    def reopened(self, edited: TorchEdited, written: Path) -> TorchModel:
        if written.suffix.lower() == PROGRAM:
            opened = open_torch(written, allow_pickle=True)  # what it wrote itself
            assert isinstance(opened, TorchModel)
            return opened
        tensors = read_tensors(written)
        for name, old in edited.program.state_dict.items():
            new = tensors[name]
            parameter = isinstance(old, torch.nn.Parameter)
            edited.program.state_dict[name] = torch.nn.Parameter(new, False) if parameter else new
        return TorchModel(edited.program, written)

    def observer(self, model: Opened, scratch: Path, options: RuntimeOptions) -> Observer:
        return TorchObserver(_with_program(model, "run"), options)

    def runs(self, model: Opened, options: RuntimeOptions | None = None) -> Reference:
        return runs_of(_with_program(model, "compared"), options)

    def fold(self, edited: TorchEdited, written: Path) -> TorchFold:
        return TorchFold(edited, written)


def _with_program(model: Opened, what: str) -> TorchModel:
    if isinstance(model, TorchModel):
        return model
    raise UsageError(
        f"{model.path} is a checkpoint without its network, so it cannot be {what}; "
        f"name the code: package.module:factory --weights {model.path} --input 1x3x224x224"
    )


FORMAT = TorchFormat()
