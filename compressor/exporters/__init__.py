"""A trained run, or a checkpoint, becomes an ONNX bundle, proved against PyTorch before it is published."""
