"""Rollouts: outputs that the student generates for training, without gradient and in eval mode."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from compressor.batching import TokenIds, bucket_by_length
from compressor.data.random_draws import Stream, uniform
from compressor.decoding.search import Chooser, greedy, pad_sources
from compressor.distillation.sampling import sample_top_k
from compressor.distillation.speculation import SpeculativeSampler
from compressor.generation_config import GenerationConfig
from compressor.method_config import RolloutConfig
from compressor.models.base import Seq2SeqModel

FULL_BATCH_ROLLOUT = 4
"""Rollouts need no gradients, so this many times the tokens of a training batch are decoded together."""


class SampleKey(NamedTuple):
    """Identifies the random numbers of one source's rollout."""

    seed: int
    visit: int
    example: int


def rollout(
    model: Seq2SeqModel,
    sources: Sequence[TokenIds],
    generation: GenerationConfig,
    config: RolloutConfig,
    *,
    max_new_tokens: int,
    batch_tokens: int,
    keys: Sequence[SampleKey] | None = None,
    teacher: Seq2SeqModel | None = None,
) -> list[list[int]]:
    """Returns one output per source, in order.

    Sources are sorted by length and cut under a token budget, so that little is padded and short ones stop early.

    Args:
        model: the student; it is in eval mode during the call.
        sources: token ids.
        generation: start, end and suppressed tokens; n-gram blocking is not applied in training.
        config: strategy and length limits.
        max_new_tokens: longest output.
        batch_tokens: padded source tokens decoded together.
        keys: of each source's random numbers, needed where the strategy samples; an output depends on nothing else.
        teacher: the one that takes part, needed by the strategy speculative.
    """
    rules = generation.model_copy(update={"no_repeat_ngram_size": 0})
    device = next(model.parameters()).device
    lengths = [len(source) for source in sources]
    limits = [_limit(length, config, max_new_tokens) for length in lengths]
    outputs: list[list[int]] = [[] for _ in sources]
    training = model.training
    model.eval()
    try:
        for rows in bucket_by_length(lengths, batch_tokens):
            source, mask = pad_sources([sources[row] for row in rows], generation.pad_id, device)
            longest = [limits[row] for row in rows]
            chooser: Chooser | None = None
            if config.strategy != "greedy":
                if keys is None:
                    raise ValueError("sampled rollouts need keys")
                own = [keys[row] for row in rows]
                proposals = _draws(Stream.ROLLOUT, own, max(longest), device)
                if config.strategy == "topk":
                    chooser = _top_k_sampler(config.top_k, proposals)
                else:
                    assert teacher is not None  # the trainer's
                    replacements = _draws(Stream.REPLACEMENT, own, max(longest), device)
                    chooser = SpeculativeSampler(teacher, source, mask, config, proposals, replacements)
            # The teacher's columns are the whole vocabulary.
            speculative = config.strategy == "speculative"
            written = greedy(model, rules, source, mask, longest, chooser, all_columns=speculative)
            for row, tokens in zip(rows, written, strict=True):
                outputs[row] = tokens
    finally:
        model.train(training)
    return outputs


def _limit(source_tokens: int, config: RolloutConfig, max_new_tokens: int) -> int:
    """Longest rollout of a source; it depends on nothing else, so that neither does the output."""
    if config.max_source_ratio is None:
        return max_new_tokens
    return min(max_new_tokens, int(config.max_source_ratio * source_tokens) + 10)


def _draws(stream: Stream, keys: Sequence[SampleKey], limit: int, device: torch.device) -> Tensor:
    """Returns numbers of each row's own key, one per step: float64 [rows, limit]."""
    visits, examples = [key.visit for key in keys], [key.example for key in keys]
    return torch.from_numpy(uniform(stream, keys[0].seed, visits, examples, limit)).to(device)


def _top_k_sampler(k: int, draws: Tensor) -> Chooser:
    """Returns a chooser that samples by ``draws`` [batch, steps]."""
    return lambda rows, step, last: sample_top_k(k, draws[rows, step])
