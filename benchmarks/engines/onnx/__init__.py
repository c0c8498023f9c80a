"""A bundle in ONNX Runtime."""
