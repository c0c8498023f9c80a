"""ONNX graphs of a model and of a whole search over it."""
