"""Conversions between Hugging Face checkpoints and the project's models; importing one here registers it."""

from compressor.teachers.conversion import bart, marian

__all__ = ["bart", "marian"]
