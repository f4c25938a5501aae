"""ONNX: the native model stays the truth; bnfold holds its structure and maps its tensors."""
