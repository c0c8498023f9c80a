"""Hugging Face `generate`."""
