"""The student's own outputs, written without gradient and in eval mode."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from compressor.config import RolloutConfig
from compressor.decoding.greedy import Choose, best_column
from compressor.decoding.search import greedy, pad_sources
from compressor.generation_config import GenerationConfig
from compressor.models.base import Seq2SeqModel


def rollout(
    model: Seq2SeqModel,
    sources: Sequence[Sequence[int] | NDArray[np.int32]],
    generation: GenerationConfig,
    config: RolloutConfig,
    *,
    max_new_tokens: int,
    batch_tokens: int,
) -> list[list[int]]:
    """One output for every source, in order.

    Sources are sorted by length and cut under a token budget, so that little is padded and short ones stop early.

    Args:
        model: the student; put into eval mode and back.
        sources: token ids.
        generation: start, end and suppressed tokens; n-gram blocking is a rule of serving and not applied here.
        config: strategy and length limits.
        max_new_tokens: longest output.
        batch_tokens: padded source tokens decoded together.
    """
    rules = generation.model_copy(update={"no_repeat_ngram_size": 0})
    choose = best_column if config.strategy == "greedy" else sample_top_k(config.top_k)
    device = next(model.parameters()).device
    order = sorted(range(len(sources)), key=lambda index: len(sources[index]))
    outputs: list[list[int]] = [[] for _ in sources]
    training = model.training
    model.eval()
    try:
        for chunk in chunks(order, [len(source) for source in sources], batch_tokens):
            longest = len(sources[chunk[-1]])
            limit = max_new_tokens
            if config.max_source_ratio is not None:
                limit = min(limit, int(config.max_source_ratio * longest) + 10)
            source, mask = pad_sources([list(sources[index]) for index in chunk], generation.pad_id, device)
            for index, tokens in zip(chunk, greedy(model, rules, source, mask, limit, choose), strict=True):
                outputs[index] = tokens
    finally:
        model.train(training)
    return outputs


def sample_top_k(k: int) -> Choose:
    """Samples among the ``k`` most probable tokens, by their renormalised probabilities."""

    def choose(logits: Tensor) -> Tensor:
        best, tokens = logits.topk(min(k, logits.shape[-1]), dim=-1)
        picked = torch.multinomial(best.softmax(dim=-1), 1)
        return tokens.gather(1, picked)[:, 0]

    return choose


def chunks(order: Sequence[int], lengths: Sequence[int] | NDArray[np.int64], batch_tokens: int) -> list[list[int]]:
    """Cuts indices in the order of ascending length so that no padded chunk is over the budget."""
    found: list[list[int]] = []
    for index in order:  # the newest is the longest
        if not found or (len(found[-1]) + 1) * int(lengths[index]) > batch_tokens:
            found.append([])
        found[-1].append(index)
    return found
