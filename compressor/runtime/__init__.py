"""Bundle in, text out: numpy and ONNX Runtime, no torch."""
