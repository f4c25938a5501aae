"""What the rest of bnfold asks of ONNX models: the one place that knows all rooms of this format."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bnfold.errors import UsageError
from bnfold.formats.onnx.edit.edited import OnnxEdited
from bnfold.formats.onnx.edit.editor import Editor
from bnfold.formats.onnx.edit.statistics import with_statistics
from bnfold.formats.onnx.graph.model import OnnxModel
from bnfold.formats.onnx.run.fold import OnnxFold
from bnfold.formats.onnx.run.generated import generated_inputs
from bnfold.formats.onnx.run.inference import runs_of
from bnfold.formats.onnx.run.observer import OnnxObserver
from bnfold.planning import Plan
from bnfold.proof.subject import Arrays, Reference

if TYPE_CHECKING:
    from bnfold.recalibration.new_statistics import NewStatistics
    from bnfold.recalibration.observer import Observer, RuntimeOptions


class OnnxFormat:
    """See `bnfold.formats.Format`."""

    def generated_inputs(self, model: OnnxModel) -> Sequence[Arrays]:
        return generated_inputs(model)

    def edit(
        self,
        model: OnnxModel,
        plan: Plan,
        *,
        keep_modules: bool = False,
        provenance: Mapping[str, str] | None = None,
    ) -> OnnxEdited:
        if keep_modules:
            raise UsageError("--keep-modules writes a PyTorch state dict; this is an ONNX model")
        return OnnxEdited(model, plan, Editor(model).apply(plan), provenance or {})

    def with_statistics(
        self,
        model: OnnxModel,
        edits: Sequence[NewStatistics],
        provenance: Mapping[str, str] | None = None,
    ) -> OnnxEdited:
        return with_statistics(model, edits, provenance)

    def reopened(self, edited: OnnxEdited, written: Path) -> OnnxModel:
        return OnnxModel(written)

    def observer(self, model: OnnxModel, scratch: Path, options: RuntimeOptions) -> Observer:
        return OnnxObserver(model, scratch, options)

    def runs(self, model: OnnxModel, options: RuntimeOptions | None = None) -> Reference:
        return runs_of(model, options)

    def fold(self, edited: OnnxEdited, written: Path) -> OnnxFold:
        frozen = edited.model.freeze_initializers
        opened = OnnxModel(written, freeze_initializers=frozen)
        return OnnxFold(edited.model, edited.plan, opened, edited.provenance)


FORMAT = OnnxFormat()
