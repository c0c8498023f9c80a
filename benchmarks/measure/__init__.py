"""Measuring time and memory, and result files that a stopped measurement continues; knows nothing of models."""
