"""Writing new statistics into a copy of an ONNX model."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from bnfold.formats.onnx.edited import OnnxEdited
from bnfold.formats.onnx.model import OnnxModel
from bnfold.formats.onnx.write import Editor
from bnfold.planning import Plan
from bnfold.recalibration.edit import Restatistic

_MEAN, _VARIANCE = 3, 4


class OnnxRestated(OnnxEdited):
    """A copy of a model with new statistics, in memory as structure only."""

    def __init__(self, model: OnnxModel, edits: Iterable[Restatistic]) -> None:
        self._model, self._plan = model, Plan(())
        self._editor = Editor(model)
        for edit in edits:
            restate(self._editor, edit)
        self._editor.apply(self._plan)

    def reopened(self, written: Path) -> OnnxModel:
        return OnnxModel(written)


def restate(editor: Editor, edit: Restatistic) -> None:
    """Carries out one edit: the old names stay where no other layer reads these tensors."""
    native = edit.node.native
    first = editor.proto_of(edit.node)
    others = [editor.proto_of(node) for node in edit.shared_with]
    for position, array in ((_MEAN, edit.mean), (_VARIANCE, edit.variance)):
        like = editor.model.constant(native.scope, native.proto.input[position])
        for other in others:  # so that the tensor has one reader, and can keep its place
            editor.index.set_input(other, position, "")
        editor.replace_array(first, position, array, like)
        for other in others:
            editor.index.set_input(other, position, first.input[position])
