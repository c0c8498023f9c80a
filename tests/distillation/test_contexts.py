"""Contexts: the positions that carry loss and their labels, written out by hand; coins."""

from __future__ import annotations

import numpy as np

from compressor.distillation.contexts import build_contexts, draw_coins
from compressor.generation_config import GenerationConfig

PAD, EOS = 9, 0
MARIAN = GenerationConfig(start_id=PAD, eos_id=EOS, pad_id=PAD)
BART = GenerationConfig(start_id=EOS, eos_id=EOS, pad_id=PAD)


def test_the_label_at_the_last_position_is_eos() -> None:
    contexts = build_contexts([[5, 6, EOS], [7, EOS]], [True, False], MARIAN)
    assert contexts.tokens.tolist() == [[PAD, 5, 6], [PAD, 7, PAD]]
    assert contexts.labels.tolist() == [[5, 6, EOS], [7, EOS, PAD]]
    assert contexts.loss_mask.tolist() == [[True, True, True], [True, True, False]]
    assert contexts.from_data.tolist() == [True, False]


def test_an_output_cut_at_its_limit_carries_loss_to_its_end() -> None:
    contexts = build_contexts([[5, 6]], [False], MARIAN)
    assert contexts.tokens.tolist() == [[PAD, 5, 6]]
    assert contexts.loss_mask.tolist() == [[True, True, True]]


def test_the_start_token_carries_loss_even_if_it_is_eos() -> None:
    contexts = build_contexts([np.array([5, EOS], dtype=np.int32), [EOS]], [True, True], BART)
    assert contexts.tokens.tolist() == [[EOS, 5], [EOS, PAD]]
    assert contexts.labels.tolist() == [[5, EOS], [EOS, PAD]]
    assert contexts.loss_mask.tolist() == [[True, True], [True, False]]


def test_positions_after_the_first_eos_carry_no_loss() -> None:
    contexts = build_contexts([[5, EOS, 7, EOS]], [True], MARIAN)
    assert contexts.tokens.tolist() == [[PAD, 5]]
    assert contexts.labels.tolist() == [[5, EOS]]


def test_contexts_are_drawn_independently_per_example() -> None:
    examples = range(20_000)
    coins = draw_coins(0.3, examples, seed=1, visit=2)
    assert abs(np.mean(coins) - 0.3) < 0.02  # six standard deviations
    assert abs(np.corrcoef(coins[:-1], coins[1:])[0, 1]) < 0.05
    assert coins == draw_coins(0.3, examples, seed=1, visit=2)
    assert coins[::-7] == draw_coins(0.3, examples[::-7], seed=1, visit=2)  # whatever else is in the batch
    assert coins != draw_coins(0.3, examples, seed=1, visit=3)
    assert coins != draw_coins(0.3, examples, seed=2, visit=2)
    assert all(draw_coins(1.0, range(50), seed=1, visit=0))
    assert not any(draw_coins(0.0, range(50), seed=1, visit=0))
