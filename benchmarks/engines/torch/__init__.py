"""A run in PyTorch."""
