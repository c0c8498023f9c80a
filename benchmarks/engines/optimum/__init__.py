"""Hugging Face `generate` over ONNX graphs that Optimum exported."""
