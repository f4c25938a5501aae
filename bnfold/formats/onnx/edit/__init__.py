"""Edits of a plan, carried out on a copy of an ONNX model."""
