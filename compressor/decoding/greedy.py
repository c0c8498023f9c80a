"""Implements one step of greedy search as a module that runs in PyTorch and in the exported graph.

Shapes: batch = sentences, columns = those of the output layer, length = tokens so far with the start token.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from compressor.decoding.best_column import best_column
from compressor.decoding.constraints import Constraints, GreedyOptions, split_options
from compressor.decoding.shortlist import Shortlisted
from compressor.generation_config import GenerationConfig
from compressor.models.base import Seq2SeqModel

Choose = Callable[[Tensor], Tensor]
"""Logits [batch, columns] -> columns [batch]."""


class Greedy(NamedTuple):
    """State of a greedy search."""

    sequences: Tensor
    """int64 [batch, length]: output tokens, padded after EOS."""
    open: Tensor
    """bool [batch]: whether a sentence has no EOS yet."""


class GreedySearch(nn.Module):
    """Chooses the next token as Hugging Face ``generate`` does with one beam and no sampling."""

    Options, State = GreedyOptions, Greedy
    RESULTS: ClassVar = {"output_ids": "sequences"}
    """Maps each output of the whole search to the field of the last state that holds it."""

    def __init__(
        self,
        generation: GenerationConfig,
        vocab_size: int,
        tokens: Tensor | None = None,
        choose: Choose = best_column,
    ) -> None:
        """Initializes the search.

        Args:
            generation: Tokens and limits of the search.
            vocab_size: Number of tokens.
            tokens: int64 [columns], the token of each column; None: the columns are the vocabulary.
            choose: Selects a column from the logits; other functions than ``best_column`` sample.
        """
        super().__init__()
        self.generation, self.choose = generation, choose
        self.constraints = Constraints(generation, vocab_size, tokens)

    def start(self, batch: Tensor) -> Greedy:
        """Returns outputs of the start token alone; only the size of ``batch`` [batch] is used."""
        sequences = torch.full_like(batch, self.generation.start_id, dtype=torch.int64)[:, None]
        return Greedy(sequences, torch.ones_like(batch, dtype=torch.bool))

    def forward(
        self, logits: Tensor, state: Greedy, step: Tensor, options: GreedyOptions, kept_columns: Tensor | None = None
    ) -> Greedy:
        """Returns the state after one more token.

        Args:
            logits: [batch, columns].
            state: State of the search.
            step: int64 scalar, number of generated tokens.
            options: Options of the call.
            kept_columns: int64 [n], the columns of ``logits``, without suppressed tokens; None: all columns.
        """
        scores = self.constraints.always(logits) if kept_columns is None else logits
        operands = (scores, state.sequences, step, *options, *(() if kept_columns is None else (kept_columns,)))
        active = self.constraints.active(step, options)
        if torch.compiler.is_exporting():
            (chosen,) = torch.cond(active, self._constrained, self._free, operands)
        else:
            (chosen,) = (self._constrained if active else self._free)(*operands)
        token = torch.where(state.open, chosen, self.generation.pad_id)
        sequences = torch.cat([state.sequences, token[:, None]], dim=1)
        return Greedy(sequences, state.open & (token != self.generation.eos_id))

    def advance(
        self,
        model: Seq2SeqModel,
        state: Any,
        search_state: Greedy,
        step: Tensor,
        options: GreedyOptions,
        shortlisted: Shortlisted | None = None,
    ) -> tuple[Tensor, Any, Greedy]:
        """Runs a step of the model and a step of the search; returns the logits, the model's and the search's state."""
        kept_columns, penalty = (None, None) if shortlisted is None else shortlisted
        logits, state = model.step(search_state.sequences[:, -1], state, kept_columns)
        logits = logits.float()  # the model may run in half precision; the search runs in fp32
        if penalty is not None:
            logits = logits + penalty
        return logits, state, self(logits, search_state, step, options, kept_columns)

    # Both branches of the condition return the tokens [batch]; ``options`` ends with ``kept_columns`` if that is given.
    def _free(self, logits: Tensor, sequences: Tensor, step: Tensor, *options: Tensor) -> tuple[Tensor]:
        """Chooses the tokens where none is forbidden or forced, but those suppressed always."""
        return (self.constraints.token(self.choose(logits), split_options(options)[1]),)

    def _constrained(self, logits: Tensor, sequences: Tensor, step: Tensor, *options: Tensor) -> tuple[Tensor]:
        """Chooses the tokens under all constraints."""
        call, kept_columns = split_options(options)
        column = self.choose(self.constraints.forbid(logits, sequences, step, call, kept_columns))
        flag, given = self.constraints.forced(step, call)
        return (torch.where(flag, given, self.constraints.token(column, kept_columns)),)
