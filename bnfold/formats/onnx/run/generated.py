"""Inputs made from the signature, on which onnxruntime was seen to run the model."""

from __future__ import annotations

from collections.abc import Sequence

from bnfold.errors import RuntimeUnavailableError
from bnfold.formats.onnx.graph.inputs import SETS, bearable, is_heavy, make_inputs
from bnfold.formats.onnx.graph.model import OnnxModel
from bnfold.formats.onnx.graph.shapes import is_static, only_first_axes_are_dynamic
from bnfold.formats.onnx.graph.sizes import BATCH_SIZES, INPUT_SIZES
from bnfold.formats.onnx.run.session import Arrays, Session


def generated_inputs(model: OnnxModel) -> Sequence[Arrays]:
    """Inputs of the first sizes for which onnxruntime runs the model; of its own, where all are fixed.

    Raises:
        DataError: where an input has a type that cannot be made up.
        RuntimeUnavailableError: where onnxruntime does not run the model.
    """
    graph = model.proto.graph
    if is_static(graph):  # there is no other size to try
        return [make_inputs(model.inputs, INPUT_SIZES[0], 0)]
    session = Session(model.path)
    sizes = BATCH_SIZES if only_first_axes_are_dynamic(graph) else INPUT_SIZES
    found: list[Arrays] = []
    problem: RuntimeUnavailableError | None = None
    for each in bearable(model.inputs, sizes):
        if found and is_heavy(model.inputs, each):
            break
        # Normally distributed values at one size, values like an image's at another.
        feed = make_inputs(model.inputs, each, len(found))
        try:
            session.run(feed)
        except RuntimeUnavailableError as error:
            problem = problem or error
        else:
            found.append(feed)
        if len(found) == SETS:
            break
    if not found:
        assert problem is not None
        raise problem
    return found
