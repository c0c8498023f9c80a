"""One step of the search as a PyTorch module: it is unit-tested like any other, then traced into the loop's body.

Shapes: batch = sentences, rows = those of the output layer.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from compressor.errors import ExportError
from compressor.generation import GenerationConfig


def check_honoured(generation: GenerationConfig) -> None:
    """Refuses what the greedy graph cannot do. Beams and length penalty do not matter to a greedy search.

    Raises:
        ExportError: names the field.
    """
    if generation.no_repeat_ngram_size > 0:
        raise ExportError(
            f"generation.no_repeat_ngram_size is {generation.no_repeat_ngram_size}, which the greedy graph cannot "
            "honour: distil with --set teacher.no_repeat_ngram_size=0"
        )


class GreedySearch(nn.Module):
    """Chooses the next token as Hugging Face ``generate`` does with one beam and no sampling."""

    def __init__(self, generation: GenerationConfig, vocab_size: int, tokens: Tensor | None = None) -> None:
        """``tokens``, int64 [rows]: the token of each logit, where they are not the whole vocabulary."""
        super().__init__()
        check_honoured(generation)
        self.generation = generation
        self.vocab_size = vocab_size
        # As in generate, a forced first token moves the "begin" of begin_suppressed_ids behind itself.
        self.begin_step = 0 if generation.forced_bos_id is None else 1
        self.register_buffer("tokens", tokens)
        self.tokens: Tensor | None
        always = self._penalty(generation.suppressed_ids)
        self.register_buffer("suppressed", always)
        self.register_buffer("begin_suppressed", torch.minimum(always, self._penalty(generation.begin_suppressed_ids)))
        self.register_buffer("eos", self._penalty((generation.eos_id,)))
        self.suppressed: Tensor
        self.begin_suppressed: Tensor
        self.eos: Tensor

    def _penalty(self, ids: tuple[int, ...]) -> Tensor:
        """[rows]: minus infinity at ``ids``, zero elsewhere."""
        penalty = torch.zeros(self.vocab_size)
        penalty[list(ids)] = -torch.inf
        return penalty if self.tokens is None else penalty[self.tokens]

    def process(self, logits: Tensor, step: Tensor) -> Tensor:
        """Takes forbidden tokens out: [batch, rows] -> [batch, rows]; ``step`` is an int64 scalar, from 0."""
        generation = self.generation
        if generation.begin_suppressed_ids:
            logits = logits + torch.where(step == self.begin_step, self.begin_suppressed, self.suppressed)
        elif generation.suppressed_ids:
            logits = logits + self.suppressed
        if generation.min_new_tokens:
            logits = logits + torch.where(step < generation.min_new_tokens, self.eos, torch.zeros_like(self.eos))
        return logits

    def forward(
        self, logits: Tensor, step: Tensor, max_new_tokens: Tensor, finished: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Chooses one token for every sentence.

        Args:
            logits: [batch, rows].
            step: int64 scalar, tokens generated so far.
            max_new_tokens: int64 scalar, the limit of this call.
            finished: bool [batch], sentences that have ended.

        Returns:
            The tokens, int64 [batch] (padding where finished); the new ``finished``; bool scalar, whether any is not.
        """
        generation = self.generation
        token = self.process(logits, step).argmax(dim=-1)
        if self.tokens is not None:
            token = self.tokens[token]
        if generation.forced_bos_id is not None:
            token = torch.where(step == 0, generation.forced_bos_id, token)
        if generation.forced_eos_id is not None:
            token = torch.where(step == max_new_tokens - 1, generation.forced_eos_id, token)
        token = torch.where(finished, generation.pad_id, token)
        finished = finished | (token == generation.eos_id)
        return token, finished, (~finished).any()
