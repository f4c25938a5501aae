"""ONNX: the native model stays the truth; bnfold holds its structure and maps its tensors."""

from bnfold.formats.onnx.graph.model import OnnxModel

__all__ = ["OnnxModel"]
