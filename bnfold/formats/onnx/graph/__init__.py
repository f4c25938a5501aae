"""An ONNX model as data, and its reading into the neutral graph."""
