"""Checkpoints between Hugging Face's layouts and the project's own."""
