"""Whether a file holds a model at all: asked once, where it is read, and nowhere behind that.

What onnxruntime loads and runs passes, unless it can be read in two ways. What it does not load may
pass as well: a model that no runtime executes can still be inspected.
"""

from bnfold.formats.onnx.graph.validation.functions import validate_functions
from bnfold.formats.onnx.graph.validation.graph import validate_graph
from bnfold.formats.onnx.graph.validation.opsets import validate_opsets

__all__ = ["validate_functions", "validate_graph", "validate_opsets"]
