"""ONNX models in onnxruntime: sessions, activations, pieces."""
