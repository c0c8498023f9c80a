"""HTTP endpoint over exported bundles: FastAPI and ONNX Runtime, no torch."""
