"""Student and native teacher architectures (PyTorch)."""
