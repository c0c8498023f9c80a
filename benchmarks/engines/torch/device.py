"""The device of the engines that run in PyTorch."""

from __future__ import annotations

import torch

from compressor.errors import DependencyError


def torch_device(name: str) -> torch.device:
    """``cpu`` or ``cuda``. Raises DependencyError where there is no GPU."""
    if name == "cuda" and not torch.cuda.is_available():
        raise DependencyError("device cuda: PyTorch found no GPU, or was built without CUDA")
    return torch.device(name)
