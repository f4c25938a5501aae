"""The bytes of an ONNX file on disk: the container, its tensors, external data, saving."""
