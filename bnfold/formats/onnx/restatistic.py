"""Writing new statistics into a copy of an ONNX model."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from bnfold.formats.onnx.draft import Draft
from bnfold.formats.onnx.edited import OnnxEdited
from bnfold.formats.onnx.model import OnnxModel
from bnfold.planning import Plan
from bnfold.recalibration.edit import Restatistic

_MEAN, _VARIANCE = 3, 4


class OnnxRestated(OnnxEdited):
    """A copy of a model with new statistics, in memory as structure only."""

    def __init__(self, model: OnnxModel, edits: Iterable[Restatistic]) -> None:
        self._model, self._plan = model, Plan(())
        self._draft = Draft(model)
        for edit in edits:
            restate(self._draft, edit)
        self._draft.finish()

    def reopened(self, written: Path) -> OnnxModel:
        return OnnxModel(written)


def restate(draft: Draft, edit: Restatistic) -> None:
    """Carries out one edit: the old names stay where no other layer reads these tensors."""
    native = edit.node.native
    first = draft.copy_of(native.proto)
    others = [draft.copy_of(node.native.proto) for node in edit.shared_with]
    for position, array in ((_MEAN, edit.mean), (_VARIANCE, edit.variance)):
        like = draft.model.constant(native.scope, native.proto.input[position])
        for other in others:  # so that the tensor has one reader, and can keep its place
            draft.index.set_input(other, position, "")
        draft.replace_array(first, position, array, like)
        for other in others:
            draft.index.set_input(other, position, first.input[position])
