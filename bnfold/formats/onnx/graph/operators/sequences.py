"""Entries of a sequence that a split has made: each is a slice of the tensor that was split."""

from __future__ import annotations

import onnx

from bnfold.formats.onnx.graph.operators.view import NodeView, Reading
from bnfold.kinds import Movement


def read_entry(view: NodeView) -> Reading | None:
    cut = view.scope.cuts.get(view.name(0))
    if cut is None or view.constants.find(view.scope, cut.input[0]):
        return None
    settings = {a.name: onnx.helper.get_attribute_value(a) for a in cut.attribute}
    # Without sizes every entry is one element thick, and its axis may be dropped.
    drops_axis = len(cut.input) == 1 and not settings.get("keepdims", 1)
    touched = None if drops_axis else (int(settings.get("axis", 0)),)
    return Reading(Movement(touched), (cut.input[0],))


READERS = {"SequenceAt": read_entry}
