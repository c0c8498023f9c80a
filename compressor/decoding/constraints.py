"""The rules of a generation configuration, as a module: the same one runs in PyTorch and in the exported graph.

They are Hugging Face's logits processors. What a caller may choose (shortest output, blocked n-grams, a prefix) comes
as tensors, what belongs to the model (suppressed and forced tokens) is built in.

Shapes: rows = sentences or beams, columns = those of the output layer, length = tokens so far, with the start token.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from compressor.generation_config import GenerationConfig

NEVER_FREE = 1 << 31
"""A step that no search reaches."""


OptionsT = TypeVar("OptionsT", bound=NamedTuple)
"""``GreedyOptions``, or what extends it."""


class GreedyOptions(NamedTuple):
    """The options of one call. Limits are vectors, so that sentences with different settings share a batch."""

    max_new_tokens: Tensor
    """int64 [batch]: longest output, prefix and EOS included."""
    min_new_tokens: Tensor
    """int64 [batch]: EOS is forbidden before this many tokens, not counting the prefix."""
    no_repeat_ngram_size: Tensor
    """int64 scalar: no n-gram of this size occurs twice; 0 is off."""
    prefix_ids: Tensor
    """int64 [batch, prefix_len]: every output begins with these."""


PerSentence = int | float | Sequence[int] | Sequence[float]
"""One number for all sentences of a batch, or a number for each."""


def per_sentence(value: PerSentence, batch: int, dtype: torch.dtype = torch.int64) -> Tensor:
    """A vector [batch] of a number for all sentences, or of one number for each."""
    return torch.as_tensor(value, dtype=dtype).expand(batch).clone()


def search_options(
    generation: GenerationConfig,
    batch: int,
    max_new_tokens: PerSentence | None = None,
    prefix: Tensor | None = None,
    min_new_tokens: PerSentence | None = None,
) -> GreedyOptions:
    """The options of a call; what is None is taken from the configuration.

    Args:
        generation: Defaults.
        batch: Number of sentences.
        max_new_tokens, min_new_tokens: One number for all sentences, or one for each.
        prefix: int64 [batch, prefix_len].
    """
    longest = generation.max_new_tokens if max_new_tokens is None else max_new_tokens
    shortest = generation.min_new_tokens if min_new_tokens is None else min_new_tokens
    return GreedyOptions(
        per_sentence(longest, batch),
        per_sentence(shortest, batch),
        torch.tensor(generation.no_repeat_ngram_size),
        torch.zeros(batch, 0, dtype=torch.int64) if prefix is None else prefix,
    )


def select_options(options: OptionsT, rows: Tensor) -> OptionsT:
    """The options of the given sentences (int64 [rows]); scalars stay as they are."""
    return options._make(tensor[rows] if tensor.dim() else tensor for tensor in options)


def split_options(tensors: tuple[Tensor, ...]) -> tuple[GreedyOptions, Tensor | None]:
    """The options among the operands of a branch, and the columns ``kept_columns`` where these follow."""
    count = len(GreedyOptions._fields)
    return GreedyOptions(*tensors[:count]), tensors[count] if len(tensors) > count else None


class Constraints(nn.Module):
    """Forbids tokens, and forces them."""

    def __init__(self, generation: GenerationConfig, vocab_size: int, tokens: Tensor | None = None) -> None:
        """``tokens``, int64 [columns]: the token of each column, where they are not the whole vocabulary.

        A token that is there twice has the first of its columns.
        """
        super().__init__()
        self.generation, self.vocab_size = generation, vocab_size
        self.register_buffer("tokens", tokens)
        self.tokens: Tensor | None
        self.register_buffer("suppressed", self._penalty(generation.suppressed_ids))
        self.register_buffer("begin_suppressed", self._penalty(generation.begin_suppressed_ids))
        self.register_buffer("eos", self._penalty((generation.eos_id,)))
        self.suppressed: Tensor
        self.begin_suppressed: Tensor
        self.eos: Tensor
        columns = torch.arange(vocab_size)
        if tokens is not None:  # a token without a column gets the one behind the last
            columns = torch.full((vocab_size,), len(tokens))
            first: dict[int, int] = {}
            for column, token in enumerate(tokens.tolist()):
                first.setdefault(token, column)
            columns[list(first)] = torch.tensor(list(first.values()))
        self.register_buffer("columns", columns)
        self.columns: Tensor

    def _penalty(self, ids: tuple[int, ...]) -> Tensor:
        """[columns]: minus infinity at ``ids``, zero elsewhere."""
        penalty = torch.zeros(self.vocab_size)
        penalty[list(ids)] = -torch.inf
        return penalty if self.tokens is None else penalty[self.tokens]

    def token(self, column: Tensor, kept_columns: Tensor | None = None) -> Tensor:
        """The tokens of columns; of the columns ``kept_columns`` (int64 [n]), where scores have no others."""
        for names in (kept_columns, self.tokens):
            column = column if names is None else names.index_select(0, column.flatten()).view(column.shape)
        return column

    def always(self, scores: Tensor) -> Tensor:
        """Takes out what is suppressed at every step: [..., columns] -> [..., columns]."""
        return scores + self.suppressed if self.generation.suppressed_ids else scores

    def active(self, step: Tensor, options: GreedyOptions) -> Tensor:
        """Whether anything else is forbidden or forced at this step, for any sentence: bool scalar.

        ``step`` is an int64 scalar, from 0; no sentence of a batch is past its limit. The bounds depend on the batch
        alone: a graph computes them outside its loop, and compares at every step.
        """
        prefix_len = options.prefix_ids.shape[1]
        least = options.min_new_tokens.amax(dim=0)
        if self.generation.begin_suppressed_ids:
            least = torch.maximum(least, self._begin(prefix_len) + 1)
        until = least + prefix_len
        if self.generation.forced_bos_id is not None:
            until = until.clamp(min=1)
        active = step < torch.where(options.no_repeat_ngram_size > 0, NEVER_FREE, until)
        if self.generation.forced_eos_id is not None:
            active = active | (step == options.max_new_tokens.amin(dim=0) - 1)
        return active

    def _begin(self, prefix_len: int) -> Tensor:
        """The step after the prefix that counts as the beginning: a forced first token is not.

        A tensor, so that a graph asks at run time whether there is a prefix.
        """
        length = torch.scalar_tensor(prefix_len, dtype=torch.int64, device=self.eos.device)
        return (length == 0).long() if self.generation.forced_bos_id is not None else length * 0

    def forbid(
        self, scores: Tensor, so_far: Tensor, step: Tensor, options: GreedyOptions, kept_columns: Tensor | None = None
    ) -> Tensor:
        """Puts what may not come at this step at minus infinity.

        Args:
            scores: logits or log-probabilities [rows, columns].
            so_far: int64 [rows, length].
            step: int64 scalar, tokens generated so far.
            options: of this call, with a ``min_new_tokens`` for every row.
            kept_columns: int64 [n], the columns that scores have, if not all.
        """
        prefix_len = options.prefix_ids.shape[1]
        after = step - prefix_len
        eos, begin_suppressed, blocked = self.eos, self.begin_suppressed, self.columns[so_far]
        if kept_columns is not None:
            eos, begin_suppressed = eos[kept_columns], begin_suppressed[kept_columns]
            places = torch.full_like(self.eos, scores.shape[1], dtype=torch.int64)
            blocked = F.pad(
                places.scatter(0, kept_columns, torch.arange(scores.shape[1], device=kept_columns.device)), (0, 1)
            )[blocked]
        nothing = torch.zeros_like(eos)
        if self.generation.begin_suppressed_ids:
            scores = scores + torch.where(after == self._begin(prefix_len), begin_suppressed, nothing)
        too_short = after < options.min_new_tokens
        scores = scores + torch.where(too_short[:, None], eos, nothing)
        blocked = torch.where(_repeats(so_far, options.no_repeat_ngram_size), blocked, scores.shape[1])
        penalty = scores.new_zeros(scores.shape[0], scores.shape[1] + 1).scatter(1, blocked, -torch.inf)
        return scores + penalty[:, :-1]

    def forced(self, step: Tensor, options: GreedyOptions) -> tuple[Tensor, Tensor]:
        """Whether the token of this step is given (bool [batch]), and which it is (int64 [batch])."""
        prefix, generation = options.prefix_ids, self.generation
        batch, prefix_len = prefix.shape
        in_prefix = step < prefix_len
        padded = torch.cat([prefix, prefix.new_zeros(batch, 1)], dim=1)
        token = padded.index_select(1, step.clamp(max=prefix_len).reshape(1))[:, 0]
        flag = in_prefix.expand(batch)
        if generation.forced_bos_id is not None:
            first = (step == 0) & ~in_prefix
            token, flag = torch.where(first, generation.forced_bos_id, token), flag | first
        if generation.forced_eos_id is not None:
            last = (step == options.max_new_tokens - 1) & ~in_prefix
            token, flag = torch.where(last, generation.forced_eos_id, token), flag | last
        return flag, token


def _repeats(so_far: Tensor, size: Tensor) -> Tensor:
    """Bool [rows, length]: whether that token would now end an n-gram which has been there before.

    It would if the size - 1 tokens before it are those at the end. Compared for every offset from the end at once.
    """
    place = torch.arange(so_far.shape[1], device=so_far.device)
    before = place[:, None] - 1 - place[None, :]  # [token, offset]: where the token before, the one before that, ... is
    differs = (so_far[:, before.clamp(min=0)] != so_far.flip(1)[:, None, :]) | (before < 0)
    matters = place < size - 1
    return ((differs & matters).sum(dim=-1) == 0) & (size > 0)
