"""Teacher families; importing one here registers it."""

from compressor.teachers import huggingface, native

__all__ = ["huggingface", "native"]
