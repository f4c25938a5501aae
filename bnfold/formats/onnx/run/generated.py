"""Inputs made from the signature, on which onnxruntime was seen to run the model."""

from __future__ import annotations

from collections.abc import Sequence

from bnfold.errors import RuntimeUnavailableError
from bnfold.formats.onnx.graph.inputs import make_inputs
from bnfold.formats.onnx.graph.model import OnnxModel
from bnfold.formats.onnx.graph.shapes import is_static
from bnfold.formats.onnx.graph.sizes import INPUT_SIZES
from bnfold.formats.onnx.run.session import Arrays, Session


def generated_inputs(model: OnnxModel) -> Sequence[Arrays]:
    """Inputs of the first sizes for which onnxruntime runs the model.

    Raises:
        DataError: where an input has a type that cannot be made up.
        RuntimeUnavailableError: where onnxruntime does not run the model.
    """
    session = Session(model.path)
    static = is_static(model.proto.graph)
    found: list[Arrays] = []
    problem: RuntimeUnavailableError | None = None
    for batch, other in INPUT_SIZES:
        feeds = make_inputs(model.inputs, batch, other)
        try:
            for each in feeds:
                session.run(each)
        except RuntimeUnavailableError as error:
            problem = problem or error
        else:
            # Normally distributed values at one size, values like an image's at another.
            found.append(feeds[len(found)])
        if len(found) == len(feeds) or (static and not found):
            break
        if static:
            return feeds
    if not found:
        assert problem is not None
        raise problem
    return found
