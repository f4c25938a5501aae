"""Writing new statistics into a copy of an ONNX model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from bnfold.formats.onnx.edit.edited import OnnxEdited
from bnfold.formats.onnx.edit.working_copy import WorkingCopy
from bnfold.formats.onnx.graph.model import OnnxModel
from bnfold.planning import Plan
from bnfold.recalibration.new_statistics import NewStatistics

_MEAN, _VARIANCE = 3, 4


def with_statistics(
    model: OnnxModel,
    edits: Iterable[NewStatistics],
    provenance: Mapping[str, str] | None = None,
) -> OnnxEdited:
    """A copy of ``model`` with new statistics, in memory as structure only."""
    draft = WorkingCopy(model)
    for edit in edits:
        replace_statistics(draft, edit)
    draft.finish()
    return OnnxEdited(model, Plan(()), draft, provenance)


def replace_statistics(draft: WorkingCopy, edit: NewStatistics) -> None:
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
