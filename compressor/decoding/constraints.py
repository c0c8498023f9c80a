"""Applies the rules of a generation configuration, in PyTorch and in the exported graph.

The rules are those of Hugging Face's logits processors. Options of a call (minimum length, blocked n-grams, a prefix)
are tensors; properties of the model (suppressed and forced tokens) are constants.

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
"""Number of a step that no search reaches."""


OptionsT = TypeVar("OptionsT", bound=NamedTuple)
"""``GreedyOptions`` or ``BeamOptions``."""


class GreedyOptions(NamedTuple):
    """Options of one call. Limits are vectors, so that sentences with different limits can share a batch."""

    max_new_tokens: Tensor
    """int64 [batch]: maximum output length, with prefix and EOS."""
    min_new_tokens: Tensor
    """int64 [batch]: EOS is forbidden before this many tokens, not counting the prefix."""
    no_repeat_ngram_size: Tensor
    """int64 scalar: no n-gram of this size occurs twice; 0 is off."""
    prefix_ids: Tensor
    """int64 [batch, prefix_len]: first tokens of every output."""


PerSentence = int | float | Sequence[int] | Sequence[float]
"""One number for all sentences of a batch, or a number for each."""


def per_sentence(value: PerSentence, batch: int, dtype: torch.dtype = torch.int64) -> Tensor:
    """Returns a vector [batch] from one number for all sentences, or one for each."""
    return torch.as_tensor(value, dtype=dtype).expand(batch).clone()


def search_options(
    generation: GenerationConfig,
    batch: int,
    max_new_tokens: PerSentence | None = None,
    prefix: Tensor | None = None,
    min_new_tokens: PerSentence | None = None,
) -> GreedyOptions:
    """Returns the options of a call; None takes the configuration's value.

    Args:
        generation: Defaults.
        batch: Number of sentences.
        max_new_tokens: Maximum output length, one number for all sentences or one for each.
        prefix: int64 [batch, prefix_len], first tokens of the outputs.
        min_new_tokens: Minimum output length, as ``max_new_tokens``.
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
    """Returns the options of the given sentences (int64 [rows]); scalars are unchanged."""
    return options._make(tensor[rows] if tensor.dim() else tensor for tensor in options)


def split_options(tensors: tuple[Tensor, ...]) -> tuple[GreedyOptions, Tensor | None]:
    """Returns the options among the operands of a branch, and the ``kept_columns`` that may follow them."""
    count = len(GreedyOptions._fields)
    return GreedyOptions(*tensors[:count]), tensors[count] if len(tensors) > count else None


class Constraints(nn.Module):
    """Forbids and forces tokens."""

    def __init__(self, generation: GenerationConfig, vocab_size: int, tokens: Tensor | None = None) -> None:
        """Initializes the rules.

        Args:
            generation: The rules.
            vocab_size: Number of tokens.
            tokens: int64 [columns], the token of each column; None: the columns are the vocabulary. The column of a
                token that occurs twice is the first.
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
        if tokens is not None:  # the column of a token that has none is the number of columns
            columns = torch.full((vocab_size,), len(tokens))
            first: dict[int, int] = {}
            for column, token in enumerate(tokens.tolist()):
                first.setdefault(token, column)
            columns[list(first)] = torch.tensor(list(first.values()))
        self.register_buffer("columns", columns)
        self.columns: Tensor

    def _penalty(self, ids: tuple[int, ...]) -> Tensor:
        """Returns [columns]: minus infinity at ``ids``, 0 elsewhere."""
        penalty = torch.zeros(self.vocab_size)
        penalty[list(ids)] = -torch.inf
        return penalty if self.tokens is None else penalty[self.tokens]

    def token(self, column: Tensor, kept_columns: Tensor | None = None) -> Tensor:
        """Returns the tokens of columns; they index ``kept_columns`` (int64 [n]) if that is given."""
        for names in (kept_columns, self.tokens):
            column = column if names is None else names.index_select(0, column.flatten()).view(column.shape)
        return column

    def always(self, scores: Tensor) -> Tensor:
        """Masks the tokens that are suppressed at every step: [..., columns] -> [..., columns]."""
        return scores + self.suppressed if self.generation.suppressed_ids else scores

    def active(self, step: Tensor, options: GreedyOptions) -> Tensor:
        """Returns a bool scalar: whether any other token is forbidden or forced at this step for any sentence.

        ``step`` is an int64 scalar, from 0; no sentence of a batch is past its limit. The bounds depend only on the
        batch, so a graph computes them outside its loop and only compares at every step.
        """
        prefix_len = options.prefix_ids.shape[1]
        least = options.min_new_tokens.amax(dim=0)
        if self.generation.begin_suppressed_ids:
            least = torch.maximum(least, self._begin_step(prefix_len) + 1)
        until = least + prefix_len
        if self.generation.forced_bos_id is not None:
            until = until.clamp(min=1)
        active = step < torch.where(options.no_repeat_ngram_size > 0, NEVER_FREE, until)
        if self.generation.forced_eos_id is not None:
            active = active | (step == options.max_new_tokens.amin(dim=0) - 1)
        return active

    def _begin_step(self, prefix_len: int) -> Tensor:
        """Returns the step, counted after the prefix, at which ``begin_suppressed_ids`` are forbidden (int64 scalar).

        It is 0, or 1 after a forced first token; a prefix replaces that token. It is a tensor because a graph learns
        only at run time whether there is a prefix.
        """
        length = torch.scalar_tensor(prefix_len, dtype=torch.int64, device=self.eos.device)
        return (length == 0).long() if self.generation.forced_bos_id is not None else length * 0

    def forbid(
        self, scores: Tensor, so_far: Tensor, step: Tensor, options: GreedyOptions, kept_columns: Tensor | None = None
    ) -> Tensor:
        """Returns the scores with minus infinity for the tokens that are forbidden at this step.

        Args:
            scores: Logits or log-probabilities [rows, columns].
            so_far: int64 [rows, length], tokens so far.
            step: int64 scalar, number of generated tokens.
            options: Options of the call, with a ``min_new_tokens`` for every row.
            kept_columns: int64 [n], the columns of ``scores``; None: all columns.
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
            scores = scores + torch.where(after == self._begin_step(prefix_len), begin_suppressed, nothing)
        too_short = after < options.min_new_tokens
        scores = scores + torch.where(too_short[:, None], eos, nothing)
        blocked = torch.where(_repeats(so_far, options.no_repeat_ngram_size), blocked, scores.shape[1])
        penalty = scores.new_zeros(scores.shape[0], scores.shape[1] + 1).scatter(1, blocked, -torch.inf)
        return scores + penalty[:, :-1]

    def forced(self, step: Tensor, options: GreedyOptions) -> tuple[Tensor, Tensor]:
        """Returns whether the token of this step is forced (bool [batch]), and that token (int64 [batch])."""
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
    """Returns bool [rows, length]: whether that token would now complete a repeated n-gram.

    It does if the size - 1 tokens before it equal the last ones. All offsets from the end are compared at once.
    """
    place = torch.arange(so_far.shape[1], device=so_far.device)
    before = place[:, None] - 1 - place[None, :]  # [token, offset]: position of the token that many + 1 places earlier
    differs = (so_far[:, before.clamp(min=0)] != so_far.flip(1)[:, None, :]) | (before < 0)
    matters = place < size - 1
    return ((differs & matters).sum(dim=-1) == 0) & (size > 0)
