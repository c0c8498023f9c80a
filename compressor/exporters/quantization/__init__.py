"""Quantization of exported graphs: int8, int4, and mixed formats chosen per matmul."""
