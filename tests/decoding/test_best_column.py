"""The place of the highest logit, against NumPy's argmax."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from compressor.decoding.best_column import BLOCK, best_column


@pytest.mark.parametrize("columns", [1, BLOCK - 1, BLOCK, BLOCK + 1, 5 * BLOCK, 1000])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_is_the_first_of_the_highest(columns: int, dtype: torch.dtype) -> None:
    logits = torch.randn(300, columns, generator=torch.Generator().manual_seed(columns)).to(dtype)
    logits[:50] = logits[:50].round()  # many are equal
    logits[50:100, : columns // 2] = -torch.inf
    for place in range(min(columns, 100)):  # every block, and what is left after the last
        logits[100 + place, place * columns // 100] = 100.0
    logits[200] = 0.0
    logits[201] = -torch.inf
    logits[202, -1] = 200.0
    expected = np.argmax(logits.double().numpy(), axis=-1)
    np.testing.assert_array_equal(best_column(logits).numpy(), expected)
    assert best_column(logits[:0]).shape == (0,)
